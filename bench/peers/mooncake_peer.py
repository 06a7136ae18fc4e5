"""Mooncake Transfer Engine over TCP, P2PHANDSHAKE metadata, host memory, through its own Python binding."""
import os

import common
from mooncake.engine import TransferEngine


def main():
    options = common.arguments()
    server = options.role == "server"
    pool = common.Pool(options.pool, 0 if server else 7)
    engine = TransferEngine()
    if engine.initialize(options.host, "P2PHANDSHAKE", "tcp", "") or engine.register_memory(pool.address, options.pool):
        raise RuntimeError("Mooncake did not initialize")
    if server:
        common.say_ready(options, session=f"{options.host}:{engine.get_rpc_port()}", address=pool.address)
        common.park()
    remote = common.wait_ready(options)
    peer, base = remote["session"], remote["address"]

    def prepare(op, local, far, size):
        ours, theirs, sizes = [pool.address + at for at in local], [base + at for at in far], [size] * len(local)
        if len(local) == 1:
            call = engine.transfer_sync_write if op == "write" else engine.transfer_sync_read
            operands = (peer, ours[0], theirs[0], size)
        else:
            call = engine.batch_transfer_sync_write if op == "write" else engine.batch_transfer_sync_read
            operands = (peer, ours, theirs, sizes)

        def go():
            code = call(*operands)
            if code:
                raise RuntimeError(f"transfer returned {code}")

        return go

    common.run_cases("mooncake", prepare, remote["pid"], options)
    os._exit(0)


main()
