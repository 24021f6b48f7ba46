"""Lets init_process_group("hora") find its ranks under mpirun and srun, which tell nothing that PyTorch understands,
and tells a replacement that `hora run` has started what it cannot do.

PyTorch looks for a rendezvous before it looks for a backend, so this is called whenever torch is imported (the entry
point group torch.backends; TORCH_DEVICE_BACKEND_AUTOLOAD=0 turns all of them off). Elsewhere it does nothing: it is
no part of the package hora so as not to import that into every program that uses PyTorch.
"""

import importlib
import os
import sys

_LAUNCHERS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_STEP_ID", "HORA_JOIN")


def install():
    if "RANK" in os.environ or not any(name in os.environ for name in _LAUNCHERS):
        return
    # torch.distributed.rendezvous is a function of that module; the scheme env:// cannot be registered again.
    handlers = importlib.import_module("torch.distributed.rendezvous")._rendezvous_handlers
    of_torch = handlers["env"]

    def rendezvous(url, **options):
        if "RANK" in os.environ or "rank=" in url or "hora" not in _asked_for(sys._getframe(1)):
            return of_torch(url, **options)
        from hora.torch.meeting import meet_as_launched

        return meet_as_launched(**options)

    handlers["env"] = rendezvous


def _asked_for(frame):
    """The backend of the init_process_group() that has called, directly or not, which does not pass it on."""
    while frame is not None and frame.f_code.co_name != "init_process_group":
        frame = frame.f_back
    return str(frame.f_locals.get("backend", "")) if frame is not None else ""
