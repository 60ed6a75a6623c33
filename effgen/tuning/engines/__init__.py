"""Searches of others for schedules, beside effgen's own: `effgen tune --engine`.

Another engine proposes candidates and learns their times, as `tuning.search` does; measuring, records and the choice of
what is kept are the same for all. `metaschedule` asks a process of its own, `evolution`, where TVM's MetaSchedule runs.
"""
