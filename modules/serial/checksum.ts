// Checksums of serial protocols: where they stand in a frame, how they are written, whether they hold.

export const CHECKSUM_KINDS = [
  'sum8',
  'sum8_complement',
  'sum16',
  'xor8',
  'crc16_modbus',
  'crc16_ccitt',
  'crc16_xmodem',
  'nmea',
] as const;
export type ChecksumKind = (typeof CHECKSUM_KINDS)[number];

export interface ChecksumSettings {
  readonly kind: ChecksumKind;
  /** First byte of the frame that is covered. */
  readonly fromByte: number;
  /** Bytes between the checksum and the end of the frame. */
  readonly afterBytes: number;
  /** Of the bytes before the checksum, so many are not covered. */
  readonly gapBytes: number;
  readonly encoding: 'binary' | 'hex';
  readonly order: 'big' | 'little';
}

interface Algorithm {
  readonly bytes: 1 | 2;
  readonly compute: (bytes: Uint8Array) => number;
}

/** CRC-16 from the least significant bit (Modbus over Serial Line V1.02, 2.5.1.2): the remainder of each byte. */
const REFLECTED_TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xa001 : crc >>> 1;
  return crc;
});

/** CRC-16 from the most significant bit with the polynomial x^16 + x^12 + x^5 + 1 of ITU-T V.41. */
const CCITT_TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021;
  return crc;
});

function crc16Reflected(bytes: Uint8Array): number {
  let crc = 0xffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (REFLECTED_TABLE[(crc ^ byte) & 0xff] ?? 0);
  return crc;
}

function crc16Ccitt(bytes: Uint8Array, initial: number): number {
  let crc = initial;
  for (const byte of bytes) crc = ((crc << 8) & 0xffff) ^ (CCITT_TABLE[(crc >>> 8) ^ byte] ?? 0);
  return crc;
}

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xffff, 0);
const xor = (bytes: Uint8Array): number => bytes.reduce((total, byte) => total ^ byte, 0);

const ALGORITHMS: Readonly<Record<ChecksumKind, Algorithm>> = {
  sum8: { bytes: 1, compute: (bytes) => sum(bytes) & 0xff },
  sum8_complement: { bytes: 1, compute: (bytes) => -sum(bytes) & 0xff },
  sum16: { bytes: 2, compute: sum },
  xor8: { bytes: 1, compute: xor },
  crc16_modbus: { bytes: 2, compute: crc16Reflected },
  crc16_ccitt: { bytes: 2, compute: (bytes) => crc16Ccitt(bytes, 0xffff) },
  crc16_xmodem: { bytes: 2, compute: (bytes) => crc16Ccitt(bytes, 0) },
  nmea: { bytes: 1, compute: xor },
};

/** The checksum of the bytes as it is written on the wire. */
export function checksumBytes(settings: ChecksumSettings, bytes: Uint8Array): Buffer {
  const { bytes: width, compute } = ALGORITHMS[settings.kind];
  const value = compute(bytes);
  const big = width === 1 ? Buffer.of(value) : Buffer.of(value >>> 8, value & 0xff);
  const ordered = settings.order === 'little' ? big.reverse() : big;
  return settings.encoding === 'hex' ? Buffer.from(ordered.toString('hex').toUpperCase(), 'latin1') : ordered;
}

/** How many bytes a checksum takes on the wire. */
export function checksumLength({ kind, encoding }: Pick<ChecksumSettings, 'kind' | 'encoding'>): number {
  return ALGORITHMS[kind].bytes * (encoding === 'hex' ? 2 : 1);
}

/** What a frame says beside its checksum: undefined when the checksum is wrong or there is no room for one. */
export interface CheckedFrame {
  /** Where the checksum begins: nothing from here on is payload. */
  readonly payloadEnd: number;
}

/** Looks whether the checksum of a frame holds. */
export function checkFrame(settings: ChecksumSettings, frame: Buffer): CheckedFrame | undefined {
  if (settings.kind === 'nmea') return checkNmea(frame);
  const start = frame.length - settings.afterBytes - checksumLength(settings);
  const coveredEnd = start - settings.gapBytes;
  if (coveredEnd < settings.fromByte) return undefined;
  const expected = checksumBytes(settings, frame.subarray(settings.fromByte, coveredEnd));
  const found = frame.subarray(start, start + expected.length);
  const isSound =
    settings.encoding === 'hex'
      ? found.toString('latin1').toUpperCase() === expected.toString('latin1')
      : found.equals(expected);
  return isSound ? { payloadEnd: start } : undefined;
}

const STAR = 0x2a;

/** NMEA 0183: exclusive or of what stands between `$` or `!` and `*`, then two hexadecimal digits. Noise may stand before. */
function checkNmea(frame: Buffer): CheckedFrame | undefined {
  const star = frame.lastIndexOf(STAR);
  if (star < 0) return undefined;
  const dollar = Math.max(frame.lastIndexOf('$', star), frame.lastIndexOf('!', star));
  if (dollar < 0) return undefined;
  const digits = frame.toString('latin1', star + 1).trimEnd();
  if (!/^[0-9A-Fa-f]{2}$/.test(digits)) return undefined;
  return Number.parseInt(digits, 16) === xor(frame.subarray(dollar + 1, star)) ? { payloadEnd: star } : undefined;
}
