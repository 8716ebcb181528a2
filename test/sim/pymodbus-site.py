"""A bus of Modbus devices by pymodbus 3.0 from Debian, for who searches it.

pymodbus-site.py tcp HOST PORT
pymodbus-site.py rtu PATH BAUD_RATE

Unit 1: input registers 0-19 are floats of ordinary size, words swapped; holding registers 0-9 and 100-104, and no others.
Unit 7: holding registers 0-299, coils 0-15. Unit 42: input registers 0-19, floats in the ordinary order.
All say that they are a Fieldpost Works FW-7. Prints "ready" once it serves, and ends with its standard input.
"""

import asyncio
import struct
import sys

from pymodbus.datastore import ModbusServerContext, ModbusSlaveContext, ModbusSparseDataBlock
from pymodbus.device import ModbusDeviceIdentification
from pymodbus.server.async_io import ModbusSerialServer, ModbusTcpServer
from pymodbus.transaction import ModbusRtuFramer, ModbusSocketFramer

# Where a table has nothing at all; a block must hold something.
FAR = {60000: 0}
FLOATS = [230.1, 231.4, 229.8, 50.02, 12.5, 1520.0, 0.97, 18.3, 42.0, 7.25]


def floats(swapped):
    registers = {}
    for index, value in enumerate(FLOATS):
        high, low = struct.unpack(">HH", struct.pack(">f", value))
        registers[2 * index], registers[2 * index + 1] = (low, high) if swapped else (high, low)
    return registers


def slave(holding=None, inputs=None, coils=None):
    block = lambda values: ModbusSparseDataBlock(dict(values or FAR))
    return ModbusSlaveContext(hr=block(holding), ir=block(inputs), co=block(coils), di=block(None), zero_mode=True)


def context():
    holding = {i: i for i in [*range(10), *range(100, 105)]}
    return ModbusServerContext(
        slaves={
            1: slave(holding=holding, inputs=floats(True)),
            7: slave(holding={i: i for i in range(300)}, coils={i: i % 2 == 0 for i in range(16)}),
            42: slave(inputs=floats(False)),
        },
        single=False,
    )


async def serve(kind, where, number):
    identity = ModbusDeviceIdentification(
        info_name={"VendorName": "Fieldpost Works", "ProductCode": "FW-7", "MajorMinorRevision": "1.0"}
    )
    if kind == "tcp":
        server = ModbusTcpServer(
            context(),
            framer=ModbusSocketFramer,
            identity=identity,
            address=(where, int(number)),
            allow_reuse_address=True,
            ignore_missing_slaves=True,
        )
    else:
        server = ModbusSerialServer(
            context(),
            framer=ModbusRtuFramer,
            identity=identity,
            port=where,
            baudrate=int(number),
            # Pseudo-terminals know no parity.
            parity="N",
            bytesize=8,
            stopbits=1,
            timeout=0.005,
            ignore_missing_slaves=True,
        )
        await server.start()
    asyncio.get_running_loop().call_later(0.3, lambda: print("ready", flush=True))
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: sys.stdin.read(1) or sys.exit(0))
    await server.serve_forever()


asyncio.run(serve(*sys.argv[1:]))
