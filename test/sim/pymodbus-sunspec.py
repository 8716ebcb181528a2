"""A SunSpec inverter by pymodbus 3.0 from Debian: pymodbus-sunspec.py HOST PORT BASE

Unit 126 has at BASE the mark, a common model, a model of no interest, a three-phase inverter (103) and the end; all other
addresses are refused. Prints "ready" once it serves, and ends with its standard input.
"""

import asyncio
import sys

from pymodbus.datastore import ModbusServerContext, ModbusSlaveContext, ModbusSparseDataBlock
from pymodbus.server.async_io import ModbusTcpServer
from pymodbus.transaction import ModbusSocketFramer

NONE16, NONE = 0x8000, 0xFFFF


def signed(value):
    return value & 0xFFFF


# As SunSpec model 103 lists them, behind its id and length.
INVERTER = [
    *[1250, 417, 416, 417, signed(-2)],
    *[4002, 4012, 3995, 2301, 2311, 2298, signed(-1)],
    *[865, signed(1), 5002, signed(-2), 867, signed(1), signed(-42), signed(1), signed(-998), signed(-1)],
    *[0x0012, 0xD687, 0],
    *[NONE, NONE16, 6105, signed(-1), 9013, 0],
    *[452, NONE16, NONE16, NONE16, signed(-1)],
    *[4, NONE],
    *[0] * 12,
]


def registers(base):
    blocks = [0x5375, 0x6E53, 1, 66, *[0] * 66, 64001, 3, 7, 7, 7, 103, len(INVERTER), *INVERTER, 0xFFFF, 0]
    return {base + index: value for index, value in enumerate(blocks)}


async def serve(host, port, base):
    block = ModbusSparseDataBlock(registers(int(base)))
    nothing = ModbusSparseDataBlock({60000: 0})
    slave = ModbusSlaveContext(hr=block, ir=nothing, co=nothing, di=nothing, zero_mode=True)
    server = ModbusTcpServer(
        ModbusServerContext(slaves={126: slave}, single=False),
        framer=ModbusSocketFramer,
        address=(host, int(port)),
        allow_reuse_address=True,
        ignore_missing_slaves=True,
    )
    asyncio.get_running_loop().call_later(0.3, lambda: print("ready", flush=True))
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: sys.stdin.read(1) or sys.exit(0))
    await server.serve_forever()


asyncio.run(serve(*sys.argv[1:]))
