"""A NIXL agent with the UCX backend over TCP, host memory, through its own Python binding."""
import os
import time

import numpy

import common

try:
    from nixl_cu12._api import nixl_agent, nixl_agent_config
except ImportError:
    from nixl._api import nixl_agent, nixl_agent_config

BACKEND = "UCX"
# Between two looks at a transfer's state: spinning would take the CPU that moves the bytes.
PAUSE_S = 50e-6


def main():
    options = common.arguments()
    server = options.role == "server"
    agent = nixl_agent(options.role, nixl_agent_config(enable_prog_thread=True, backends=[]))
    agent.create_backend(BACKEND, {})
    pool = common.Pool(options.pool, 0 if server else 7)
    agent.register_memory([(pool.address, options.pool, 0, "")], "DRAM", backends=[BACKEND])
    metadata = os.path.join(options.run, "nixl.metadata")
    if server:
        with open(metadata, "wb") as file:
            file.write(agent.get_agent_metadata())
        common.say_ready(options, address=pool.address)
        common.park()
    remote = common.wait_ready(options)
    with open(metadata, "rb") as file:
        agent.add_remote_agent(file.read())
    kept = []

    def descriptors(start, offsets, size):
        table = numpy.empty((len(offsets), 3), dtype=numpy.uint64)
        table[:, 0], table[:, 1], table[:, 2] = [start + at for at in offsets], size, 0
        return agent.get_xfer_descs(table, "DRAM")

    def prepare(op, local, far, size):
        ours = agent.prep_xfer_dlist("NIXL_INIT_AGENT", descriptors(pool.address, local, size), "DRAM", backends=[BACKEND])
        theirs = agent.prep_xfer_dlist("server", descriptors(remote["address"], far, size), "DRAM", backends=[BACKEND])
        index = numpy.arange(len(local), dtype=numpy.int32)
        handle = agent.make_prepped_xfer(op.upper(), ours, index, theirs, index, b"", [BACKEND])
        kept.append((ours, theirs, handle))

        def go():
            state = agent.transfer(handle)
            while state == "PROC":
                time.sleep(PAUSE_S)
                state = agent.check_xfer_state(handle)
            if state != "DONE":
                raise RuntimeError(f"transfer ended as {state}")

        return go

    common.run_cases("nixl", prepare, remote["pid"], options)
    os._exit(0)


main()
