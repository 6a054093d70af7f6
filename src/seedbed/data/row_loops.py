"""The two loops behind `row_product.py`, in LLVM IR, compiled in 15 ms when they are first used.

In C, with `vector` for `width` floats in registers, `some` for the first `columns` of them, and x(e) for what the model
sees of an entry, pixel(e) · scale[column(e)]:

    void multiply(…) {                                       // out [B, columns] = x · weights [I, columns] + bias
        for (i < inputs) table[i] = some(weights + i·row);
        for (b < count) {
            vector sum = some(bias);
            for (entry e of image images[b]) sum += x(e) · table[column(e)];
            some(out + b·out_row) = sum;
        }
    }
    void add_gradient(…) {                                   // weights [I, columns] = xᵀ · out, bias = its sum over b
        vector total = 0;
        for (i < inputs) table[i] = 0;
        for (b < count) {
            total += some(out + b·out_row);
            for (entry e of image images[b]) table[column(e)] += x(e) · some(out + b·out_row);
        }
        some(bias) = total;
        for (i < inputs) some(weights + i·row) = table[i] − total · shift[i];
    }

The table, width · I floats, stays in the core's cache while the images are read, and serves weights of any layout. The
sum has UNROLLED parts, because each addition waits for the one before. A number's bits do not depend on the width or on
its place in the vector.

Not every machine has a C compiler, but pip installs llvmlite. numba, which compiles Python through llvmlite, starts in
0.6 s in every process, and in 4 s in the first one on a machine.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int64, c_void_p
from functools import cache

import llvmlite.binding as llvm

from seedbed.data.rows import UNROLLED

WIDTHS = (8, 16, 32)
# an image's list lies anywhere in memory: its first lines of 64 bytes are fetched some images ahead
AHEAD, LINES = 4, 10
POINTERS = ("table", "scale", "shift", "entries", "begins", "images", "weights", "bias", "out")
SIZES = ("inputs", "count", "row", "out_row")
ARGUMENTS = ", ".join([f"ptr noalias %{name}" for name in POINTERS] + [f"i64 %{name}" for name in SIZES])


@cache
def loops(columns: int) -> tuple[Callable, ...]:
    """Return multiply(POINTERS…, SIZES…) and add_gradient, with the same arguments, for 1 to 32 columns.

    table: room for float32 [inputs, 32]. scale, shift: float32 [inputs]. entries, begins: `Source.entries`. images:
    int64 [count]. bias: float32 [columns]. row, out_row: floats from one row of `weights` and `out` to the next.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(_multiply(columns) + _add_gradient(columns))
    module.verify()
    host = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple().create_target_machine(*host, opt=3)
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    _engines.append(engine)
    kinds = [c_void_p] * len(POINTERS) + [c_int64] * len(SIZES)
    return tuple(CFUNCTYPE(None, *kinds)(engine.get_function_address(name)) for name in ("multiply", "add_gradient"))


# they hold the compiled code
_engines: list[llvm.ExecutionEngine] = []


def _width(columns: int) -> int:
    return next(width for width in WIDTHS if width >= columns)


def _multiply(columns: int) -> str:
    width = _width(columns)
    v, sums = f"<{width} x float>", range(UNROLLED)
    copy = _load(columns, "w", "weights", "%i.row") + f"  store {v} %w, ptr %i.table, align 4"
    begins = ["%start", *["zeroinitializer"] * (UNROLLED - 1)]
    carried = "\n".join(f"  %sum{u} = phi {v} [{begins[u]}, %image], [%more{u}, %add]" for u in sums)
    add = "\n".join(_entry(width, u) + _plus_times(width, f"more{u}", f"sum{u}", f"x{u}", f"w{u}") for u in sums)
    total = f"  %all = fadd {v} %sum0, %sum1\n" + _store(columns, "all", "out", "%b.out")
    return f"""
declare {v} @llvm.fmuladd.v{width}f32({v}, {v}, {v})
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
define void @multiply({ARGUMENTS}) {{
begin:
{_load(columns, "start", "bias", "0")}
  br label %rows
{_each_row(width, "rows", "begin", copy, "image")}
{_each_image("rows", "", "", carried, add, total)}
  ret void
}}
"""


def _add_gradient(columns: int) -> str:
    width = _width(columns)
    v = f"<{width} x float>"
    clear = f"  store {v} zeroinitializer, ptr %i.table, align 4"
    carried = f"  %total = phi {v} [zeroinitializer, %rows], [%total.next, %done]"
    given = _load(columns, "given", "out", "%b.out") + f"  %total.next = fadd {v} %total, %given"
    add = "\n".join(
        _entry(width, u)
        + _plus_times(width, f"more{u}", f"w{u}", f"x{u}", "given")
        + f"  store {v} %more{u}, ptr %w{u}.at, align 4\n"
        for u in range(UNROLLED)
    )
    copy = f"  %t = load {v}, ptr %j.table, align 4\n"
    copy += f"""  %h.at = getelementptr float, ptr %shift, i64 %j
  %h = load float, ptr %h.at
  %h.minus = fneg float %h
{_everywhere(width, "minus", "%h.minus")}
"""
    copy += _plus_times(width, "g", "t", "minus", "total.next") + _store(columns, "g", "weights", "%j.row")
    return f"""
define void @add_gradient({ARGUMENTS}) {{
begin:
  br label %rows
{_each_row(width, "rows", "begin", clear, "image")}
{_each_image("rows", carried, given, "", add, "")}
{_store(columns, "total.next", "bias", "0")}
  br label %last
{_each_row(width, "last", "over", copy, "end", "j")}
end:
  ret void
}}
"""


def _each_row(width: int, label: str, before: str, body: str, after: str, i: str = "i") -> str:
    """Do `body` for each row %i of the table, at %i.table, and of the weights, %i.row floats from their beginning."""
    return f"""{label}:
  %{i} = phi i64 [0, %{before}], [%{i}.next, %{label}]
  %{i}.row = mul i64 %{i}, %row
  %{i}.float = mul i64 %{i}, {width}
  %{i}.table = getelementptr float, ptr %table, i64 %{i}.float
{body}
  %{i}.next = add i64 %{i}, 1
  %{i}.more = icmp slt i64 %{i}.next, %inputs
  br i1 %{i}.more, label %{label}, label %{after}"""


def _each_image(before: str, kept: str, first: str, carried: str, add: str, last: str) -> str:
    """Loop over images %b: do `first`, then `add` for every UNROLLED entries, then `last`.

    kept, carried: the values that pass from image to image, and from one `add` to the next.
    """
    return f"""image:
  %b = phi i64 [0, %{before}], [%b.next, %done]
{kept}
  %b.out = mul i64 %b, %out_row
  %images.at = getelementptr i64, ptr %images, i64 %b
  %number = load i64, ptr %images.at
  %begins.at = getelementptr i64, ptr %begins, i64 %number
  %ends.at = getelementptr i64, ptr %begins.at, i64 1
  %k.first = load i64, ptr %begins.at
  %k.end = load i64, ptr %ends.at
{_fetch_ahead()}
{first}
  br label %test
test:
  %k = phi i64 [%k.first, %image], [%k.next, %add]
{carried}
  %k.more = icmp slt i64 %k, %k.end
  br i1 %k.more, label %add, label %done
add:
{add}
  %k.next = add i64 %k, {UNROLLED}
  br label %test
done:
{last}
  %b.next = add i64 %b, 1
  %b.more = icmp slt i64 %b.next, %count
  br i1 %b.more, label %image, label %over
over:"""


def _fetch_ahead() -> str:
    lines = "\n".join(
        f"""  %line{n}.at = getelementptr i8, ptr %later.at, i64 {64 * n}
  call void @llvm.prefetch.p0(ptr %line{n}.at, i32 0, i32 3, i32 1)"""
        for n in range(LINES)
    )
    return f"""  %later = add i64 %b, {AHEAD}
  %later.is = icmp slt i64 %later, %count
  %later.b = select i1 %later.is, i64 %later, i64 %b
  %later.images.at = getelementptr i64, ptr %images, i64 %later.b
  %later.number = load i64, ptr %later.images.at
  %later.begins.at = getelementptr i64, ptr %begins, i64 %later.number
  %later.k = load i64, ptr %later.begins.at
  %later.at = getelementptr i32, ptr %entries, i64 %later.k
{lines}"""


def _entry(width: int, u: int) -> str:
    """Read entry %k + u: set every lane of %x to its x(e), and load its row of the table, at %w.at, into %w."""
    return f"""  %k{u} = add i64 %k, {u}
  %entry{u}.at = getelementptr i32, ptr %entries, i64 %k{u}
  %entry{u} = load i32, ptr %entry{u}.at
  %column{u}.32 = lshr i32 %entry{u}, 8
  %column{u} = zext i32 %column{u}.32 to i64
  %pixel{u}.32 = and i32 %entry{u}, 255
  %pixel{u} = sitofp i32 %pixel{u}.32 to float
  %scale{u}.at = getelementptr float, ptr %scale, i64 %column{u}
  %scale{u} = load float, ptr %scale{u}.at
  %seen{u} = fmul float %pixel{u}, %scale{u}
{_everywhere(width, f"x{u}", f"%seen{u}")}
  %float{u} = mul i64 %column{u}, {width}
  %w{u}.at = getelementptr float, ptr %table, i64 %float{u}
  %w{u} = load <{width} x float>, ptr %w{u}.at, align 4
"""


def _everywhere(width: int, name: str, value: str) -> str:
    v = f"<{width} x float>"
    return f"""  %{name}.first = insertelement {v} poison, float {value}, i32 0
  %{name} = shufflevector {v} %{name}.first, {v} poison, <{width} x i32> zeroinitializer"""


def _plus_times(width: int, name: str, total: str, number: str, row: str) -> str:
    """Set %name = %total + %number · %row, rounded once where the processor can."""
    v = f"<{width} x float>"
    return f"  %{name} = call {v} @llvm.fmuladd.v{width}f32({v} %{number}, {v} %{row}, {v} %{total})\n"


def _load(columns: int, name: str, array: str, place: str) -> str:
    """Read `columns` floats into %name, with zeros behind them."""
    lanes = ", ".join(f"i32 {min(lane, columns)}" for lane in range(_width(columns)))
    some = f"<{columns} x float>"
    return f"""  %{name}.at = getelementptr float, ptr %{array}, i64 {place}
  %{name}.some = load {some}, ptr %{name}.at, align 4
  %{name} = shufflevector {some} %{name}.some, {some} zeroinitializer, <{_width(columns)} x i32> <{lanes}>
"""


def _store(columns: int, name: str, array: str, place: str) -> str:
    """Write the first `columns` floats of %name."""
    lanes, v = ", ".join(f"i32 {lane}" for lane in range(columns)), f"<{_width(columns)} x float>"
    return f"""  %{name}.to = getelementptr float, ptr %{array}, i64 {place}
  %{name}.first = shufflevector {v} %{name}, {v} poison, <{columns} x i32> <{lanes}>
  store <{columns} x float> %{name}.first, ptr %{name}.to, align 4
"""
