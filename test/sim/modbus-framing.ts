// Application data units around protocol data units, for the simulated server: MBAP, RTU and ASCII.

export type Framing = 'mbap' | 'rtu' | 'ascii';

export interface Frame {
  readonly unitId: number;
  readonly pdu: Buffer;
  /** MBAP only. */
  readonly transactionId: number;
  /** Length on the wire. */
  readonly bytes: number;
}

/** Takes whole frames off the front of what has been received. */
export function takeFrames(framing: Framing, received: Buffer): { frames: Frame[]; rest: Buffer } {
  const frames: Frame[] = [];
  let rest = received;
  for (;;) {
    const taken = takers[framing](rest);
    if (taken === undefined) return { frames, rest };
    if (taken.frame !== undefined) frames.push(taken.frame);
    rest = rest.subarray(taken.length);
  }
}

interface Taken {
  readonly length: number;
  readonly frame?: Frame;
}

const takers: Record<Framing, (bytes: Buffer) => Taken | undefined> = {
  mbap: takeMbap,
  rtu: takeRtu,
  ascii: takeAscii,
};

function takeMbap(bytes: Buffer): Taken | undefined {
  if (bytes.length < 8) return undefined;
  const length = 6 + bytes.readUInt16BE(4);
  if (bytes.length < length) return undefined;
  const frame = {
    transactionId: bytes.readUInt16BE(0),
    unitId: bytes.readUInt8(6),
    pdu: Buffer.from(bytes.subarray(7, length)),
    bytes: length,
  };
  return { length, frame };
}

/** Length of a request with CRC, from its function code; undefined while that is not known yet. */
function rtuRequestLength(bytes: Buffer): number | undefined {
  const functionCode = bytes[1];
  if (functionCode === undefined) return undefined;
  if (functionCode === 15 || functionCode === 16) return bytes[6] === undefined ? undefined : 9 + bytes[6];
  if (functionCode === 22) return 10;
  if (functionCode === 23) return bytes[10] === undefined ? undefined : 13 + bytes[10];
  return functionCode === 43 ? 7 : 8;
}

function takeRtu(bytes: Buffer): Taken | undefined {
  const length = rtuRequestLength(bytes);
  if (length === undefined || bytes.length < length) return undefined;
  // A real server finds its place again by silence; here the rest goes.
  if (crc16(bytes.subarray(0, length - 2)) !== bytes.readUInt16LE(length - 2)) return { length: bytes.length };
  const frame = {
    transactionId: 0,
    unitId: bytes[0] ?? 0,
    pdu: Buffer.from(bytes.subarray(1, length - 2)),
    bytes: length,
  };
  return { length, frame };
}

function takeAscii(bytes: Buffer): Taken | undefined {
  const end = bytes.indexOf('\r\n');
  if (end < 0) return undefined;
  const length = end + 2;
  const text = bytes.subarray(0, end).toString('latin1');
  const start = text.lastIndexOf(':');
  const content = Buffer.from(text.slice(start + 1), 'hex');
  if (start < 0 || content.length < 3 || lrc(content.subarray(0, -1)) !== content.at(-1)) return { length };
  const frame = { transactionId: 0, unitId: content[0] ?? 0, pdu: Buffer.from(content.subarray(1, -1)), bytes: length };
  return { length, frame };
}

export interface Mistakes {
  readonly badCheck?: boolean;
}

/** A frame for the wire. */
export function encodeFrame(
  framing: Framing,
  { transactionId, unitId, pdu }: Omit<Frame, 'bytes'>,
  mistakes: Mistakes = {},
): Buffer {
  const content = Buffer.concat([Buffer.of(unitId), pdu]);
  const flip = mistakes.badCheck === true ? 0x55 : 0;
  switch (framing) {
    case 'mbap': {
      const header = Buffer.alloc(6);
      header.writeUInt16BE(transactionId, 0);
      // Its only check is the protocol id, which must be 0.
      header.writeUInt16BE(flip, 2);
      header.writeUInt16BE(content.length, 4);
      return Buffer.concat([header, content]);
    }
    case 'rtu': {
      const check = Buffer.alloc(2);
      check.writeUInt16LE(crc16(content) ^ flip);
      return Buffer.concat([content, check]);
    }
    case 'ascii': {
      const bytes = Buffer.concat([content, Buffer.of(lrc(content) ^ flip)]);
      return Buffer.from(`:${bytes.toString('hex').toUpperCase()}\r\n`, 'latin1');
    }
  }
}

/** MODBUS over Serial Line V1.02, 6.2.2; bit by bit, where the adapter uses a table. */
export function crc16(bytes: Uint8Array): number {
  let crc = 0xffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >> 1) ^ 0xa001 : crc >> 1;
  }
  return crc;
}

/** 2.5.2.2: the two's complement of the sum. */
function lrc(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum += byte;
  return -sum & 0xff;
}
