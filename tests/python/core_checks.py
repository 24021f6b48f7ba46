"""Checks of hora._core with NumPy, on every rank of a job."""

import dis
import gc
import os
import signal
import sys
import threading
import weakref

import numpy

import hora
from checks import check, check_of_several, expect, interrupted, raised, run_all
from hora import ReduceOp

FLOATING = (numpy.float16, numpy.float32, numpy.float64)
TYPES = (*FLOATING, numpy.int8, numpy.int16, numpy.int32, numpy.int64, numpy.uint8)
REDUCE = {
    ReduceOp.SUM: sum,
    ReduceOp.MIN: min,
    ReduceOp.MAX: max,
    ReduceOp.PRODUCT: lambda values: int(numpy.prod(values)),
}
PATIENCE = 60.0


class OnlyDLPack:
    """An array that offers nothing but DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class DLPackOfOld(OnlyDLPack):
    """From before DLPack had versions."""

    def __dlpack__(self, stream=None):
        return self._array.__dlpack__()


def shares(comm):
    return [rank % 3 + 1 for rank in range(comm.size)]


def own_share(comm):
    return shares(comm)[comm.rank]


@check
def knows_its_place(comm):
    expect(comm.view.size == comm.size and len(set(comm.view.members)) == comm.size)
    expect(len(set(comm.view.hosts)) == 1 and comm.epoch == comm.view.epoch)
    expect((comm.local_rank, comm.local_size) == (comm.rank, comm.size))
    expect(not comm.observing and "size=" in repr(comm.view))


@check
def reduces_all_types(comm):
    for dtype in TYPES:
        for op, expected in REDUCE.items():
            for count in (0, 1, 1000, 100_000):
                source = numpy.full(count, own_share(comm), dtype)
                target = numpy.empty_like(source)
                outcome = comm.allreduce(source, target, op)
                expect(outcome.contributors == comm.size and outcome.epoch == comm.epoch)
                expect((target == expected(shares(comm))).all(), f"{dtype} {op} {count}: {target[:3]}")
                expect((source == own_share(comm)).all())
                comm.allreduce(source, op=op)
                expect((source == target).all())


@check
def averages_floating_types_only(comm):
    for dtype in FLOATING:
        data = numpy.full((3, 4), own_share(comm), dtype)
        comm.allreduce(data, op=ReduceOp.AVERAGE)
        expect(numpy.allclose(data, sum(shares(comm)) / comm.size, rtol=1e-3))
    expect("average" in raised(hora.InvalidArgumentError, comm.allreduce, numpy.ones(3, numpy.int32),
                               op=ReduceOp.AVERAGE))
    expect("average" in raised(ValueError, comm.allreduce, numpy.ones(3, numpy.int32), op=ReduceOp.AVERAGE))


@check
def reduces_truth(comm):
    mine = numpy.array([comm.rank == 0, True, False])
    any_of = numpy.empty_like(mine)
    comm.allreduce(mine, any_of, ReduceOp.MAX)
    expect(any_of.tolist() == [True, True, False])
    comm.allreduce(mine, op=ReduceOp.MIN)
    expect(mine.tolist() == [comm.size == 1, True, False])
    expect("MAX" in raised(TypeError, comm.allreduce, mine))


@check
def moves_any_type(comm):
    root = comm.size - 1
    for dtype in (*TYPES, numpy.bool_, numpy.uint16, numpy.uint64, numpy.complex64, numpy.complex128):
        data = numpy.full((2, 3), comm.rank % 2, dtype)
        expect(comm.broadcast(data, root).contributors > 0)
        expect((data == numpy.full((2, 3), root % 2, dtype)).all(), dtype)
        target = numpy.empty((comm.size, 5), dtype)
        comm.allgather(numpy.full(5, comm.rank % 2, dtype), target)
        expect((target[:, 0] == numpy.array([rank % 2 for rank in range(comm.size)], dtype)).all(), dtype)
    expect("uint16" in raised(TypeError, comm.allreduce, numpy.ones(3, numpy.uint16)))
    expect("complex64" in raised(TypeError, comm.allreduce, numpy.ones(3, numpy.complex64)))


@check
def gathers_in_place(comm):
    for count in (1, 1000, 300_000):
        own, all_parts = numpy.full(count, comm.rank), numpy.repeat(numpy.arange(comm.size), count)
        for begin in (comm.rank * count, 0, (comm.size - 1) * count):  # its own place, and the same one on all ranks
            for call in (comm.allgather, lambda mine, out: comm.allgather_async(f"in place {count}", mine, out).wait()):
                out = numpy.full(comm.size * count, -1)
                out[begin:begin + count] = own
                call(out[begin:begin + count], out)
                expect((out == all_parts).all(), f"{count} at {begin}")


@check
def takes_buffers_and_dlpack(comm):
    plain = bytearray([comm.rank + 1] * 4)
    comm.allreduce(plain, op=ReduceOp.MAX)
    expect(plain == bytearray([comm.size] * 4))
    for kind in (OnlyDLPack, DLPackOfOld):
        data = numpy.full(7, own_share(comm), numpy.float32)
        comm.allreduce(kind(data))
        expect((data == sum(shares(comm))).all())
    scalar = numpy.array(own_share(comm), numpy.float64)
    comm.allreduce(scalar)
    expect(scalar == sum(shares(comm)))
    column = numpy.ones((4, 1), numpy.float32)[:, 0:1]  # strides of an extent of 1 do not matter
    comm.allreduce(column)


@check
def refuses_wrong_arrays(comm):
    data = numpy.zeros((4, 4), numpy.float32)
    expect("contiguous" in raised(ValueError, comm.allreduce, data.T[:, :2]))
    expect("contiguous" in raised(ValueError, comm.allreduce, OnlyDLPack(data[:, :2])))
    expect("list" in raised(TypeError, comm.allreduce, [1.0, 2.0]))
    expect("float32" in raised(TypeError, comm.allreduce, data, numpy.zeros((4, 4), numpy.float64)))
    expect("16" in raised(ValueError, comm.allreduce, data, numpy.zeros(3, numpy.float32)))
    frozen = numpy.zeros((4, 4), numpy.float32)
    frozen.flags.writeable = False
    expect("read-only" in raised(ValueError, comm.allreduce, data, frozen))
    expect("read-only" in raised(ValueError, comm.broadcast, b"1234", 0))
    comm.allreduce(frozen, data)  # to read it is right
    expect("allgather" in raised(ValueError, comm.allgather, data, numpy.zeros(3, numpy.float32)))
    expect("root" in raised(hora.InvalidArgumentError, comm.broadcast, data, comm.size))
    raised(TypeError, comm.allreduce, numpy.zeros(3, ">f4"))
    raised(TypeError, comm.allreduce, numpy.array(["a"]))
    expect("no_such" in raised(TypeError, hora.Communicator.init, no_such=1))
    expect("'many'" in raised(TypeError, hora.Communicator.init, size="many"))


@check_of_several
def tells_of_disagreement_everywhere(comm):
    text = raised(hora.MismatchError, comm.allreduce, numpy.zeros(3 + comm.rank, numpy.float32))
    expect("rank 1" in text and issubclass(hora.MismatchError, hora.HoraError))
    expect(issubclass(hora.HoraError, RuntimeError))
    handle = comm.allreduce_async("shape", numpy.zeros(3 + comm.rank, numpy.float32))
    expect("shape" in raised(hora.MismatchError, handle.wait))
    comm.barrier()


@check
def named_tensors_meet_in_any_order(comm):
    arrays = [numpy.full(10 * i + 1, own_share(comm), numpy.float32) for i in range(20)]
    gathered = numpy.empty((comm.size, 2), numpy.int64)
    shared = numpy.full(3, comm.rank, numpy.int32)
    order = range(20) if comm.rank % 2 == 0 else reversed(range(20))
    handles = [comm.allreduce_async(f"tensor {i}", arrays[i]) for i in order]
    handles.append(comm.allgather_async("gathered", numpy.full(2, comm.rank), gathered))
    handles.append(comm.broadcast_async("shared", shared, comm.size - 1))
    for handle in handles:
        expect(handle.wait(PATIENCE).contributors > 0)
        expect(handle.done() and handle.wait().contributors > 0)
    expect(all((array == sum(shares(comm))).all() for array in arrays))
    expect(gathered[:, 0].tolist() == list(range(comm.size)) and (shared == comm.size - 1).all())


@check_of_several
def a_wait_has_a_timeout(comm):
    data = numpy.ones(3, numpy.float32)
    if comm.rank == 0:
        handle = comm.allreduce_async("late", data)
        expect("goes on" in raised(hora.TimedOutError, handle.wait, 0.01))
        raised(TimeoutError, handle.wait, 0)
        expect(not handle.done())
        comm.barrier()
    else:
        comm.barrier()
        handle = comm.allreduce_async("late", data)
    handle.wait(PATIENCE)
    expect((data == comm.size).all())


@check_of_several
def other_threads_run_during_a_wait(comm):
    progress = numpy.zeros(1, numpy.int32)

    def count():
        for _ in range(10_000):
            progress[0] += 1 - progress[0] % 2
        comm.allreduce_async("progress", progress, op=ReduceOp.MAX).wait(PATIENCE)

    if comm.rank == 0:
        thread = threading.Thread(target=count)
        thread.start()
        comm.barrier()  # the others come to it once the thread has got through
        thread.join()
    else:
        comm.allreduce_async("progress", progress, op=ReduceOp.MAX).wait(PATIENCE)
        comm.barrier()
    expect(progress[0] == 1)


@check_of_several
def ctrl_c_ends_a_wait_and_the_operation_goes_on(comm):
    ordered, named = numpy.ones(100_000, numpy.float32), numpy.ones(5, numpy.float32)
    told = numpy.zeros(1, numpy.int32)
    if comm.rank == 0:
        handle = comm.allreduce_async("interrupted", named)
        expect(interrupted(lambda: comm.allreduce(ordered)))
        expect(interrupted(lambda: handle.wait()))
        comm.allreduce_async("told", told).wait(PATIENCE)
    else:
        comm.allreduce_async("told", told).wait(PATIENCE)
        comm.allreduce(ordered)
        handle = comm.allreduce_async("interrupted", named)
    handle.wait(PATIENCE)
    comm.barrier()
    expect((ordered == comm.size).all() and (named == comm.size).all())


@check_of_several
def a_second_ordered_call_is_refused(comm):
    """Of a signal's handler, and of another thread, while rank 0 waits for the others in the first."""
    data, told = numpy.ones(10, numpy.float32), numpy.zeros(1, numpy.int32)
    refused = []

    def try_again(*_):
        refused.append(raised(hora.InvalidArgumentError, comm.barrier))

    if comm.rank == 0:
        before = signal.signal(signal.SIGUSR1, try_again)

        def interrupt():
            frame = lambda: sys._current_frames()[main]  # noqa: E731
            call = max(i.offset for i in dis.get_instructions(wait) if i.opname.startswith("CALL"))
            while frame().f_code is not wait.__code__ or frame().f_lasti < call:
                pass
            try_again()
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(refused) < 2:
                pass
            comm.allreduce_async("told of refusal", told).wait(PATIENCE)

        def wait():
            comm.allreduce(data)

        main, thread = threading.get_ident(), threading.Thread(target=interrupt)
        thread.start()
        wait()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
        expect(all("ordered call inside" in text for text in refused) and len(refused) == 2, refused)
    else:
        comm.allreduce_async("told of refusal", told).wait(PATIENCE)
        comm.allreduce(data)
    expect((data == comm.size).all())
    comm.barrier()


@check_of_several
def memory_lives_as_long_as_its_operation(comm):
    data = numpy.ones(1000, numpy.float32)
    watched = weakref.ref(data)
    if comm.rank == 0:
        comm.allreduce_async("dropped", data)
        del data
        gc.collect()
        expect(watched() is not None)
        comm.barrier()
    else:
        comm.barrier()
        comm.allreduce_async("dropped", data).wait(PATIENCE)
        del data
    # Operations of one name are in order, so the one before has ended.
    comm.allreduce_async("after", numpy.ones(1, numpy.float32)).wait(PATIENCE)
    comm.barrier()
    comm.allreduce_async("last", numpy.ones(1, numpy.float32)).wait(PATIENCE)
    expect(watched() is None)


@check
def a_forked_child_cannot_use_or_break_it(comm):
    data = numpy.ones(3, numpy.float32)
    pending = comm.allreduce_async("parent", data)
    place = comm.rank, comm.size, comm.view.size, comm.epoch, comm.local_rank
    child = os.fork()
    if child == 0:
        status = 1
        try:
            expect((comm.rank, comm.size, comm.view.size, comm.epoch, comm.local_rank) == place)
            text = raised(hora.InvalidArgumentError, comm.barrier)
            everything = numpy.ones(3 * comm.size, data.dtype)
            expect("forked" in raised(hora.InvalidArgumentError, comm.allgather, data, everything))
            comm.shutdown()
            del pending
            gc.collect()
            status = 0 if "forked" in text else 2
        finally:
            os._exit(status)
    expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0)
    pending.wait(PATIENCE)
    expect((data == comm.size).all())
    comm.barrier()


@check
def a_process_can_have_more_than_one(comm):
    if comm.rank == 0:
        meeting = hora.Rendezvous.host(f"second-{os.getpid()}")
        told = f"{meeting.address} {meeting.job} {meeting.secret}".encode().ljust(400)
    else:
        told = bytes(400)
    text = bytearray(told)
    comm.broadcast(text, 0)
    address, job, secret = text.decode().split()
    second = hora.Communicator.init(rank=comm.size - 1 - comm.rank, size=comm.size, store=address, job=job,
                                    secret=secret, transport="tcp")
    data = numpy.full(3, second.rank, numpy.int64)
    second.broadcast(data, 0)
    expect(second.rank == comm.size - 1 - comm.rank and (data == 0).all())
    second.flush()
    second.shutdown()
    raised(hora.ShutDownError, second.barrier)
    comm.barrier()


def main():
    comm = hora.Communicator.init()
    status = run_all(comm.size, comm)
    if status == 0:
        comm.shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
