"""What pymodbus 3.0 says: of values in registers, and of a server that it talks to.

pymodbus-oracle.py codec        standard input: [[byte order, type, value], ...]; prints [bytes in hex, ...]
pymodbus-oracle.py client tcp|rtu|ascii HOST PORT      runs every function once; prints what it got
"""

import json
import sys

from pymodbus.client import ModbusTcpClient
from pymodbus.constants import Endian
from pymodbus.mei_message import ReadDeviceInformationRequest
from pymodbus.payload import BinaryPayloadBuilder
from pymodbus.register_read_message import ReadWriteMultipleRegistersRequest
from pymodbus.register_write_message import MaskWriteRegisterRequest
from pymodbus.transaction import ModbusAsciiFramer, ModbusRtuFramer, ModbusSocketFramer

# Order of the bytes in a word, order of the words.
ORDERS = {
    "ABCD": (Endian.Big, Endian.Big),
    "CDAB": (Endian.Big, Endian.Little),
    "BADC": (Endian.Little, Endian.Big),
    "DCBA": (Endian.Little, Endian.Little),
}
ADDERS = {
    "int16": "add_16bit_int",
    "uint16": "add_16bit_uint",
    "int32": "add_32bit_int",
    "uint32": "add_32bit_uint",
    "int64": "add_64bit_int",
    "uint64": "add_64bit_uint",
    "float16": "add_16bit_float",
    "float32": "add_32bit_float",
    "float64": "add_64bit_float",
}


def codec():
    answers = []
    for order, kind, value in json.load(sys.stdin):
        byte_order, word_order = ORDERS[order]
        builder = BinaryPayloadBuilder(byteorder=byte_order, wordorder=word_order)
        # Integers of 64 bits come as text: JSON numbers would not hold them.
        number = int(value) if "int" in kind else float(value)
        getattr(builder, ADDERS[kind])(number)
        answers.append(b"".join(builder._payload).hex())
    print(json.dumps(answers))


def registers(answer):
    return answer.registers if not answer.isError() else f"exception {answer.exception_code}"


def bits(answer, count):
    return answer.bits[:count] if not answer.isError() else f"exception {answer.exception_code}"


def client(framing, host, port):
    framer = {"tcp": ModbusSocketFramer, "rtu": ModbusRtuFramer, "ascii": ModbusAsciiFramer}[framing]
    c = ModbusTcpClient(host, port=int(port), framer=framer, timeout=1)
    assert c.connect()
    got = {
        "coils": bits(c.read_coils(3, 10, slave=1), 10),
        "discretes": bits(c.read_discrete_inputs(0, 9, slave=1), 9),
        "holding": registers(c.read_holding_registers(0, 125, slave=1)),
        "input": registers(c.read_input_registers(7, 2, slave=1)),
        "illegal": registers(c.read_holding_registers(500, 2, slave=1)),
    }
    for answer in (
        c.write_coil(20, True, slave=1),
        c.write_coils(21, [True, False, True, True, False, True, True, True, True, True], slave=1),
        c.write_register(30, 0xBEEF, slave=1),
        c.write_registers(31, [1, 2, 0xFFFF], slave=1),
        c.execute(MaskWriteRegisterRequest(40, 0x00F2, 0x0025, unit=1)),
    ):
        assert not answer.isError(), answer
    got["written_coils"] = bits(c.read_coils(20, 11, slave=1), 11)
    got["written_registers"] = registers(c.read_holding_registers(30, 4, slave=1))
    got["masked"] = registers(c.read_holding_registers(40, 1, slave=1))
    got["read_write"] = registers(
        # The method of the client forgets the unit.
        c.execute(
            ReadWriteMultipleRegistersRequest(
                read_address=50, read_count=3, write_address=51, write_registers=[7, 8], unit=1
            )
        )
    )
    info = c.execute(ReadDeviceInformationRequest(read_code=1, object_id=0, unit=1))
    got["identification"] = {str(key): value.decode() for key, value in info.information.items()}
    c.close()
    print(json.dumps(got))


if sys.argv[1] == "codec":
    codec()
else:
    client(*sys.argv[2:])
