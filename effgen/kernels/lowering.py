"""A machine as TVM's target, and TVM's lowering of a scheduled kernel, with the accumulators kept on the stack.

TVM takes every array of scope "local", and any other of 1 KiB or more, from a heap workspace: two calls for each
tile, and LLVM must first prove the pointer private before it may keep the tile in registers. On the stack it need
not. A kernel lowered without this pipeline is right, but slower (depthwise by up to 40%).
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.ir import IRModule
from tvm.tirx import PrimFunc, Stmt, compilation_pipeline

from effgen.machines.llvm import check_llvm
from effgen.machines.machine import Machine

# What `tvm.compile(..., tir_pipeline=PIPELINE)` and its relatives take.
PIPELINE = "effgen"
# TVM's own annotation for "leave this allocation to the code generator", that is, to the stack.
_ON_STACK = {"disable_lower_builtin": tirx.IntImm("bool", 1)}
_CPU = 1  # kDLCPU
# TVM tells LLVM that each buffer of each kernel is of a type of its own, which therefore aliases no other. Kernels that
# are inlined one after the other work on the same arrays by other names: LLVM drops what one stores for the next.
_NO_TYPES_OF_BUFFERS = "-enable-tbaa:bool=false"


def tvm_target(machine: Machine) -> tvm.target.Target:
    """The machine as TVM describes it. Raises TargetError where LLVM does not know its CPU."""
    check_llvm(f"--target {machine.name}", machine.llvm)
    described = machine.tvm
    if described["kind"] == "llvm":
        described = {**described, "cl-opt": [_NO_TYPES_OF_BUFFERS]}
    return tvm.target.Target(described)


def _keep_on_stack(stmt: Stmt) -> Stmt:
    """`stmt` with every allocation of scope "local" annotated."""
    if isinstance(stmt, tirx.AllocBuffer) and stmt.buffer.scope() == "local":
        return tirx.AllocBuffer(stmt.buffer, {**stmt.annotations, **_ON_STACK})
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_keep_on_stack(part) for part in stmt.seq])
    if isinstance(stmt, tirx.AttrStmt):
        return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, _keep_on_stack(stmt.body))
    if isinstance(stmt, tirx.IfThenElse):
        other = stmt.else_case and _keep_on_stack(stmt.else_case)
        return tirx.IfThenElse(stmt.condition, _keep_on_stack(stmt.then_case), other)
    if isinstance(stmt, tirx.For):
        body, bound = _keep_on_stack(stmt.body), stmt.thread_binding
        return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body, bound, stmt.annotations, stmt.step)
    return stmt


def _keep_local_on_stack(func: PrimFunc, _mod: IRModule, _context: tvm.transform.PassContext) -> PrimFunc:
    body = _keep_on_stack(func.body)
    return func.with_body(body if "global_symbol" in func.attrs else finish_private(body))


def finish_private(body: Stmt) -> Stmt:
    """What TVM adds to functions seen from outside only: the device that its lowering of heap arrays asks for, and
    the status returned (0: success), after the scope of such arrays, at whose end they are freed.
    """
    for key, value in (("device_id", 0), ("device_type", _CPU)):
        body = tirx.AttrStmt(tvm.ir.StringImm("default"), key, tirx.const(value, "int32"), body)
    return tirx.SeqStmt([body, tirx.Return(tirx.const(0, "int32"))])


def _pipeline() -> tuple[tvm.transform.Pass, tvm.transform.Pass, tvm.transform.Pass]:
    lower, finish_host, finish_device = compilation_pipeline.get_tir_pipeline("s_tir")
    keep = tirx.transform.prim_func_pass(_keep_local_on_stack, opt_level=0, name="effgen.KeepLocalOnStack")
    return tvm.transform.Sequential([lower, keep]), finish_host, finish_device


compilation_pipeline.register_tir_pipeline(PIPELINE, _pipeline)
