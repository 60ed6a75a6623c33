"""The compound line and its budgets: the largest network within limits, and what each dimension alone costs."""
