"""A Modbus server that nobody of this project wrote: pymodbus 3.0 from Debian.

pymodbus-server.py tcp|rtu_over_tcp HOST PORT
pymodbus-server.py tls HOST PORT CERTIFICATE KEY
pymodbus-server.py rtu|ascii PATH BAUD_RATE

Units 1 and 2 have four tables of 2000 entries from address 0. Registers hold their address, bits every third one.
Prints "ready" once it serves, and ends with its standard input.
"""

import asyncio
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.device import ModbusDeviceIdentification
from pymodbus.server.async_io import (
    ModbusSerialServer,
    ModbusTcpServer,
    ModbusTlsServer,
)
from pymodbus.transaction import (
    ModbusAsciiFramer,
    ModbusRtuFramer,
    ModbusSocketFramer,
)

SIZE = 2000


def slave():
    # A sequential block that starts at 1 is read from address 0 unless zero_mode is set.
    return ModbusSlaveContext(
        co=ModbusSequentialDataBlock(0, [i % 3 == 0 for i in range(SIZE)]),
        di=ModbusSequentialDataBlock(0, [i % 3 == 0 for i in range(SIZE)]),
        hr=ModbusSequentialDataBlock(0, list(range(SIZE))),
        ir=ModbusSequentialDataBlock(0, list(range(SIZE))),
        zero_mode=True,
    )


def identity():
    return ModbusDeviceIdentification(
        info_name={"VendorName": "pymodbus", "ProductCode": "PM", "MajorMinorRevision": "3.0.0"}
    )


async def serve(kind, args):
    context = ModbusServerContext(slaves={1: slave(), 2: slave()}, single=False)
    if kind in ("tcp", "rtu_over_tcp"):
        framer = ModbusSocketFramer if kind == "tcp" else ModbusRtuFramer
        server = ModbusTcpServer(
            context, framer=framer, identity=identity(), address=(args[0], int(args[1])), allow_reuse_address=True
        )
    elif kind == "tls":
        server = ModbusTlsServer(
            context,
            # Its own framer for TLS leaves out the header, against the specification.
            framer=ModbusSocketFramer,
            identity=identity(),
            address=(args[0], int(args[1])),
            certfile=args[2],
            keyfile=args[3],
            allow_reuse_address=True,
        )
    else:
        framer = ModbusRtuFramer if kind == "rtu" else ModbusAsciiFramer
        server = ModbusSerialServer(
            context,
            framer=framer,
            identity=identity(),
            port=args[0],
            baudrate=int(args[1]),
            # Pseudo-terminals know neither parity nor 7 bits.
            parity="N",
            bytesize=8,
            stopbits=1,
            timeout=0.005,
            ignore_missing_slaves=True,
        )
        await server.start()
        if server.transport is None:
            sys.exit(f"{args[0]} could not be opened")
        print("ready", flush=True)
        await server.serve_forever()
        return
    task = asyncio.ensure_future(server.serve_forever())
    await server.serving
    print("ready", flush=True)
    await task


async def main():
    async def end_with_parent():
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        import os

        os._exit(0)

    asyncio.ensure_future(end_with_parent())
    await serve(sys.argv[1], sys.argv[2:])


asyncio.run(main())
