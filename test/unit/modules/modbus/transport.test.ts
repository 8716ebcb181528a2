// Codec and framers against bytes written by hand from the specifications, in every cut that a stream may make.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Codec } from '../../../../modules/modbus/codec.ts';
import { crc16, lrc } from '../../../../modules/modbus/crc.ts';
import { reasonOf } from '../../../../modules/modbus/faults.ts';
import { AsciiFramer } from '../../../../modules/modbus/framer-ascii.ts';
import { MbapFramer } from '../../../../modules/modbus/framer-mbap.ts';
import { RtuFramer } from '../../../../modules/modbus/framer-rtu.ts';
import type { Framer } from '../../../../modules/modbus/framer.ts';
import type { ModbusRequest, ReadRequest } from '../../../../modules/modbus/pdu.ts';

function bytes(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex');
}

/** A unit of bytes written without its CRC. */
function withCrc(hex: string): Buffer {
  const data = bytes(hex);
  const crc = crc16(data, 0, data.length);
  return Buffer.concat([data, Buffer.from([crc & 0xff, crc >>> 8])]);
}

const READ: ReadRequest = { functionCode: 3, address: 0x6b, quantity: 3 };
const READ_UNIT = withCrc('11 03 00 6b 00 03');
const READ_ANSWER = withCrc('11 03 06 ae 41 56 52 43 40');

/** Reason of the fault that a call throws. */
function reason(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return reasonOf(error);
  }
  return 'none';
}

describe('checks', () => {
  it('computes the CRC and LRC of published examples', () => {
    // Modbus over Serial Line V1.02, 6.2.2: function 7 to unit 2 ends in 41 12.
    expect(crc16(bytes('02 07'), 0, 2)).toBe(0x1241);
    // 2.5.2.1 shows no value; this one is the read above: 11+03+00+6b+00+03 = 82, two's complement 7e.
    expect(lrc(bytes('11 03 00 6b 00 03'), 0, 6)).toBe(0x7e);
  });
});

describe('codec', () => {
  // Examples of the application protocol specification, sections 6.1 to 6.21, as unit 0x11.
  const cases: { request: ModbusRequest; sent: string; answered: string; data: string }[] = [
    {
      request: { functionCode: 1, address: 0x13, quantity: 0x13 },
      sent: '11 01 00 13 00 13',
      answered: '11 01 03 cd 6b 05',
      data: 'cd 6b 05',
    },
    {
      request: { functionCode: 2, address: 0xc4, quantity: 0x16 },
      sent: '11 02 00 c4 00 16',
      answered: '11 02 03 ac db 35',
      data: 'ac db 35',
    },
    { request: READ, sent: '11 03 00 6b 00 03', answered: '11 03 06 02 2b 00 00 00 64', data: '02 2b 00 00 00 64' },
    {
      request: { functionCode: 4, address: 8, quantity: 1 },
      sent: '11 04 00 08 00 01',
      answered: '11 04 02 00 0a',
      data: '00 0a',
    },
    {
      request: { functionCode: 5, address: 0xac, on: true },
      sent: '11 05 00 ac ff 00',
      answered: '11 05 00 ac ff 00',
      data: '',
    },
    {
      request: { functionCode: 6, address: 1, value: 3 },
      sent: '11 06 00 01 00 03',
      answered: '11 06 00 01 00 03',
      data: '',
    },
    {
      request: { functionCode: 15, address: 0x13, states: '1011001110'.split('').map((bit) => bit === '1') },
      sent: '11 0f 00 13 00 0a 02 cd 01',
      answered: '11 0f 00 13 00 0a',
      data: '',
    },
    {
      request: { functionCode: 16, address: 1, values: [0x000a, 0x0102] },
      sent: '11 10 00 01 00 02 04 00 0a 01 02',
      answered: '11 10 00 01 00 02',
      data: '',
    },
    {
      request: { functionCode: 22, address: 4, andMask: 0xf2, orMask: 0x25 },
      sent: '11 16 00 04 00 f2 00 25',
      answered: '11 16 00 04 00 f2 00 25',
      data: '',
    },
    {
      request: { functionCode: 23, readAddress: 3, readQuantity: 6, writeAddress: 14, values: [255, 255, 255] },
      sent: '11 17 00 03 00 06 00 0e 00 03 06 00 ff 00 ff 00 ff',
      answered: '11 17 0c 00 fe 0a cd 00 01 00 03 00 0d 00 ff',
      data: '00 fe 0a cd 00 01 00 03 00 0d 00 ff',
    },
    {
      request: { functionCode: 43, readCode: 1, objectId: 0 },
      sent: '11 2b 0e 01 00',
      answered: '11 2b 0e 01 01 00 00 01 00 03 41 42 43',
      data: '0e 01 01 00 00 01 00 03 41 42 43',
    },
  ];

  it.each(cases)('speaks function $request.functionCode', ({ request, sent, answered, data }) => {
    const codec = new Codec();
    expect(codec.encode(0x11, request).toString('hex')).toBe(withCrc(sent).toString('hex'));
    expect(Buffer.from(codec.decode(withCrc(answered))).toString('hex')).toBe(bytes(data).toString('hex'));
  });

  it.each(cases)('refuses what is not the answer to function $request.functionCode', ({ request, answered }) => {
    const codec = new Codec();
    codec.encode(0x11, request);
    const exception = withCrc(`11 ${(request.functionCode | 0x80).toString(16)} 02`);
    expect(reason(() => codec.decode(exception))).toBe('exception_2');
    codec.encode(0x11, request);
    const otherFunction = withCrc(answered.replace(/^11 ../, '11 08'));
    expect(reason(() => codec.decode(otherFunction))).toBe('function');
    codec.encode(0x11, request);
    if (request.functionCode !== 43) expect(reason(() => codec.decode(withCrc(`${answered} 00`)))).toBe('length');
  });

  it('does not take a confirmation of another write', () => {
    const codec = new Codec();
    codec.encode(0x11, { functionCode: 6, address: 1, value: 3 });
    expect(reason(() => codec.decode(withCrc('11 06 00 01 00 04')))).toBe('echo');
    codec.encode(0x11, { functionCode: 22, address: 4, andMask: 0xf2, orMask: 0x25 });
    expect(reason(() => codec.decode(withCrc('11 16 00 04 00 f2 00 24')))).toBe('echo');
  });

  it('gives the answer of the exchange, not of the one before', () => {
    const codec = new Codec();
    codec.encode(0x11, READ);
    codec.decode(READ_ANSWER);
    codec.encode(0x11, READ);
    expect(reason(() => codec.decode(withCrc('11 03 06 00')))).toBe('length');
  });
});

interface Wire {
  readonly name: string;
  readonly create: () => Framer;
  /** An answer (with CRC) as it travels, to the nth request of a framer. */
  readonly answer: (unit: Buffer, exchange: number) => Buffer;
}

function mbap(unit: Buffer, transactionId: number): Buffer {
  const length = unit.length - 2;
  return Buffer.concat([
    Buffer.from([transactionId >>> 8, transactionId & 0xff, 0, 0, length >>> 8, length & 0xff]),
    unit.subarray(0, length),
  ]);
}

function ascii(unit: Buffer): Buffer {
  const end = unit.length - 2;
  const check = lrc(unit, 0, end).toString(16).padStart(2, '0');
  return Buffer.from(`:${unit.toString('hex', 0, end)}${check}\r\n`.toUpperCase(), 'latin1');
}

const WIRES: readonly Wire[] = [
  { name: 'Modbus TCP', create: () => new MbapFramer(), answer: mbap },
  { name: 'RTU', create: () => new RtuFramer(), answer: (unit) => unit },
  { name: 'ASCII', create: () => new AsciiFramer(), answer: ascii },
];

describe.each(WIRES)('$name', ({ create, answer }) => {
  it('finds the answer however the stream is cut', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 20 }), (cuts) => {
        const framer = create();
        framer.request(READ_UNIT, READ);
        let rest = answer(READ_ANSWER, 1);
        let found: Buffer | undefined;
        for (const cut of cuts) {
          if (rest.length === 0) break;
          expect(found).toBeUndefined();
          found = framer.receive(rest.subarray(0, cut));
          rest = rest.subarray(cut);
        }
        if (rest.length > 0) found = framer.receive(rest);
        expect(found?.toString('hex')).toBe(READ_ANSWER.toString('hex'));
      }),
    );
  });

  it('finds exceptions', () => {
    const framer = create();
    framer.request(READ_UNIT, READ);
    const exception = withCrc('11 83 02');
    expect(framer.receive(answer(exception, 1))?.toString('hex')).toBe(exception.toString('hex'));
  });

  it('says that an answer was truncated, and takes the next exchange', () => {
    const framer = create();
    framer.request(READ_UNIT, READ);
    expect(framer.receive(answer(READ_ANSWER, 1).subarray(0, 8))).toBeUndefined();
    expect(framer.giveUp()).toBe('truncated');
    if (framer.lost) return;
    framer.request(READ_UNIT, READ);
    expect(framer.receive(answer(READ_ANSWER, 2))).toEqual(READ_ANSWER);
  });

  it('does not take an answer of another unit', () => {
    const framer = create();
    framer.request(READ_UNIT, READ);
    const other = answer(withCrc('12 03 06 ae 41 56 52 43 40'), 1);
    expect(['unit_id', 'none']).toContain(reason(() => expect(framer.receive(other)).toBeUndefined()));
    expect(['unit_id', 'timeout']).toContain(framer.giveUp());
  });

  it('says only timeout when nothing came', () => {
    const framer = create();
    framer.request(READ_UNIT, READ);
    expect(framer.giveUp()).toBe('timeout');
    expect(framer.lost).toBe(false);
  });

  it('throws away what comes between exchanges', () => {
    const framer = create();
    framer.request(READ_UNIT, READ);
    framer.giveUp();
    expect(framer.receive(answer(READ_ANSWER, 1))).toBeUndefined();
    framer.request(READ_UNIT, READ);
    const fresh = withCrc('11 03 06 00 01 00 02 00 03');
    expect(framer.receive(answer(fresh, 2))?.toString('hex')).toBe(fresh.toString('hex'));
  });

  it('survives any bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }), (pieces) => {
        const framer = create();
        framer.request(READ_UNIT, READ);
        for (const piece of pieces) {
          const fault = reason(() => framer.receive(Buffer.from(piece)));
          expect(fault).not.toBe('internal');
          if (fault !== 'none') break;
        }
        framer.giveUp();
      }),
    );
  });
});

describe('Modbus TCP', () => {
  it('numbers requests and passes over answers of others', () => {
    const framer = new MbapFramer();
    expect(framer.request(READ_UNIT).toString('hex')).toBe(mbap(READ_UNIT, 1).toString('hex'));
    framer.giveUp();
    expect(framer.request(READ_UNIT).readUInt16BE(0)).toBe(2);
    expect(framer.receive(mbap(READ_ANSWER, 1))).toBeUndefined();
    expect(framer.giveUp()).toBe('transaction_id');
    framer.request(READ_UNIT);
    expect(framer.receive(Buffer.concat([mbap(READ_ANSWER, 2), mbap(READ_ANSWER, 3)]))).toEqual(READ_ANSWER);
  });

  it('wraps its transaction id', () => {
    const framer = new MbapFramer();
    for (let count = 0; count < 65_535; count += 1) framer.request(READ_UNIT);
    expect(framer.request(READ_UNIT).readUInt16BE(0)).toBe(0);
  });

  it.each([
    ['another protocol', '00 01 00 01 00 05 11 03 02 00 01', 'protocol_id'],
    ['no protocol at all', '48 54 54 50 2f 31 2e 31 20 34 30 30', 'protocol_id'],
    ['an oversized frame', '00 01 00 00 01 2c 11 03', 'oversized'],
    ['an empty frame', '00 01 00 00 00 00 11 03', 'protocol_id'],
  ])('loses its place at %s', (_, hex, expected) => {
    const framer = new MbapFramer();
    framer.request(READ_UNIT);
    expect(reason(() => framer.receive(bytes(hex)))).toBe(expected);
    expect(framer.lost).toBe(true);
  });

  it('loses its place when an answer ends in the middle', () => {
    const framer = new MbapFramer();
    framer.request(READ_UNIT);
    framer.receive(mbap(READ_ANSWER, 1).subarray(0, 9));
    expect(framer.giveUp()).toBe('truncated');
    expect(framer.lost).toBe(true);
  });

  it('refuses another unit id', () => {
    const framer = new MbapFramer();
    framer.request(READ_UNIT);
    expect(reason(() => framer.receive(mbap(withCrc('12 03 06 ae 41 56 52 43 40'), 1)))).toBe('unit_id');
  });
});

describe('RTU', () => {
  it('says at once that the CRC is wrong', () => {
    const framer = new RtuFramer();
    framer.request(READ_UNIT, READ);
    const damaged = Buffer.from(READ_ANSWER);
    damaged[4] = 0;
    expect(reason(() => framer.receive(damaged))).toBe('crc');
  });

  it('passes over noise and an echo before the answer', () => {
    for (const before of [bytes('00'), bytes('ff 11'), READ_UNIT, withCrc('11 03 40 6b 00 03')]) {
      const framer = new RtuFramer();
      framer.request(READ_UNIT, READ);
      let found: Buffer | undefined;
      for (const byte of Buffer.concat([before, READ_ANSWER])) found ??= framer.receive(Buffer.from([byte]));
      expect(found?.toString('hex')).toBe(READ_ANSWER.toString('hex'));
    }
  });

  it('refuses an answer of another length', () => {
    const framer = new RtuFramer();
    framer.request(READ_UNIT, READ);
    expect(reason(() => framer.receive(withCrc('11 03 04 ae 41 56 52')))).toBe('length');
  });

  it('ends noise that never ends', () => {
    const framer = new RtuFramer();
    framer.request(READ_UNIT, READ);
    expect(reason(() => framer.receive(Buffer.alloc(2000, 0x55)))).toBe('oversized');
  });

  it('finds the end of an identification, also when the number of objects counts all answers', () => {
    const request: ModbusRequest = { functionCode: 43, readCode: 1, objectId: 0 };
    const unit = withCrc('11 2b 0e 01 00');
    for (const count of ['02', '03']) {
      const framer = new RtuFramer();
      framer.request(unit, request);
      const identification = withCrc(`11 2b 0e 01 01 00 00 ${count} 00 03 41 42 43 01 01 44`);
      let found: Buffer | undefined;
      for (const byte of identification) found ??= framer.receive(Buffer.from([byte]));
      expect(found?.toString('hex')).toBe(identification.toString('hex'));
    }
  });
});

describe('ASCII', () => {
  it('writes and reads the specified form', () => {
    const framer = new AsciiFramer();
    expect(framer.request(READ_UNIT, READ).toString('latin1')).toBe(':1103006B00037E\r\n');
  });

  it('refuses a wrong LRC at once', () => {
    const framer = new AsciiFramer();
    framer.request(READ_UNIT, READ);
    expect(reason(() => framer.receive(Buffer.from(':110306AE415652434000\r\n')))).toBe('lrc');
  });

  it('starts anew at each colon', () => {
    const framer = new AsciiFramer();
    framer.request(READ_UNIT, READ);
    const found = framer.receive(Buffer.concat([Buffer.from('garbage:1103'), ascii(READ_ANSWER)]));
    expect(found?.toString('hex')).toBe(READ_ANSWER.toString('hex'));
  });

  it('names what it saw instead of an answer', () => {
    const framer = new AsciiFramer();
    framer.request(READ_UNIT, READ);
    framer.receive(Buffer.from(':zz0306\r\n'));
    expect(framer.giveUp()).toBe('garbled');
  });
});
