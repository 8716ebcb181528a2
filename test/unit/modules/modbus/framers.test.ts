import { expect, it } from 'vitest';
import { crc16, lrc } from '../../../../modules/modbus/crc.ts';
import { AsciiFramer } from '../../../../modules/modbus/framer-ascii.ts';
import { RtuFramer } from '../../../../modules/modbus/framer-rtu.ts';
import type { ModbusRequest } from '../../../../modules/modbus/pdu.ts';

const REQUEST: ModbusRequest = { functionCode: 3, address: 0, quantity: 1 };

function withCrc(unit: readonly number[]): Buffer {
  const bytes = Buffer.from([...unit, 0, 0]);
  bytes.writeUInt16LE(crc16(bytes, 0, unit.length), unit.length);
  return bytes;
}

const FRAMERS = {
  rtu: { framer: new RtuFramer(), frame: withCrc },
  ascii: {
    framer: new AsciiFramer(),
    frame: (unit: readonly number[]): Buffer => {
      const bytes = Buffer.from([...unit, lrc(Buffer.from(unit), 0, unit.length)]);
      return Buffer.from(`:${bytes.toString('hex').toUpperCase()}\r\n`, 'latin1');
    },
  },
};

it.each(['rtu', 'ascii'] as const)('%s: tells of late answers of others that come before its own', (kind) => {
  const { framer, frame } = FRAMERS[kind];
  const senders = (): unknown[] =>
    framer.takeForeign().map(({ unitId, functionCode }) => `${unitId}/${functionCode.toString(16)}`);
  framer.request(withCrc([1, 3, 0, 0, 0, 1]), REQUEST);
  const late = Buffer.concat([frame([2, 3, 2, 0, 7]), frame([1, 4, 2, 0, 8]), frame([2, 0x83, 2])]);
  // As a line gives it.
  for (const byte of late) expect(framer.receive(Buffer.from([byte]))).toBeUndefined();
  expect(senders()).toEqual(['2/3', '1/4', '2/83']);
  expect(framer.receive(Buffer.concat([frame([2, 3, 2, 0, 7]), frame([1, 3, 2, 0, 9])]))?.[4]).toBe(9);
  expect(senders()).toEqual(['2/3']);
  framer.request(withCrc([1, 3, 0, 0, 0, 1]), REQUEST);
  framer.receive(frame([2, 3, 2, 0, 7]));
  expect([framer.giveUp(), senders()]).toEqual(['unit_id', ['2/3']]);
});
