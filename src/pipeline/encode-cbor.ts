// CBOR (RFC 8949) with the fields of the JSON form. The outermost map and the list of samples have no length in front, so
// that the commit can insert the identity and pieces can be joined.

import { encode, rfc8949EncodeOptions } from 'cborg';
import { CBOR_CONTENT_TYPE } from '../core/body.ts';
import type { Message } from '../core/message.ts';
import { qualityText, type PointValue, type ReadingBatch } from '../core/reading.ts';
import { ISO_TIME_BYTES, isoTime, type Timestamp } from '../core/time.ts';
import type { EncodedFormat, Piece } from './body-format.ts';

const PROPERTIES = Object.freeze({ contentType: CBOR_CONTENT_TYPE });
const NO_PROPERTIES = Object.freeze({});

const MAP_OPEN = Uint8Array.of(0xbf);
const LIST_OPEN = Uint8Array.of(0x9f);
const CLOSE = Uint8Array.of(0xff);
const TEXT_24 = Uint8Array.of(0x78, ISO_TIME_BYTES);
const INT64_MAX = 2n ** 64n - 1n;

const encoded = (value: unknown): Uint8Array => encode(value, rfc8949EncodeOptions);
const DEVICE = encoded('device');
const TIME = encoded('time');
const SAMPLES = encoded('samples');
const CLOCK = encoded('clock');

/** Integers that 64 bits do not hold are texts, as in JSON. */
function cborValue(value: PointValue): unknown {
  if (typeof value !== 'bigint') return value;
  return value <= INT64_MAX && value >= -INT64_MAX - 1n ? value : value.toString();
}

function content({ readings }: ReadingBatch): { values: Map<string, unknown>; quality?: Map<string, string> } {
  const values = new Map<string, unknown>();
  const quality = new Map<string, string>();
  for (const reading of readings) {
    if (reading.value !== undefined && reading.quality.level !== 'bad') {
      values.set(reading.point, cborValue(reading.value));
    }
    if (reading.quality.level !== 'good') quality.set(reading.point, qualityText(reading.quality));
  }
  return quality.size === 0 ? { values } : { values, quality };
}

function message(deviceId: Message['deviceId'], time: Timestamp, rest: readonly Uint8Array[]): Message {
  const head = [MAP_OPEN, DEVICE, encoded(deviceId), TIME, TEXT_24];
  const timeAt = head.reduce((bytes, part) => bytes + part.length, 0);
  const clock = time.clock === 'synced' ? [] : [CLOCK, encoded(time.clock)];
  return {
    deviceId,
    body: Buffer.concat([...head, Buffer.from(isoTime(time.wallMs), 'latin1'), ...rest, ...clock, CLOSE]),
    properties: NO_PROPERTIES,
    systemProperties: PROPERTIES,
    time,
    stamps: { timeAt, identityAt: timeAt + ISO_TIME_BYTES },
  };
}

function pairs(fields: Readonly<Record<string, unknown>>): Uint8Array[] {
  return Object.entries(fields).flatMap(([name, value]) => [encoded(name), encoded(value)]);
}

export const cborFormat: EncodedFormat = {
  single: (batch) => message(batch.deviceId, batch.time, pairs(content(batch))),
  piece: (batch, offsetMs) => encoded({ offset_ms: offsetMs, ...content(batch) }),
  packed: (deviceId, time, pieces: readonly Piece[]) =>
    message(deviceId, time, [SAMPLES, LIST_OPEN, ...pieces.filter((piece) => typeof piece !== 'string'), CLOSE]),
  overheadBytes: (deviceId) => 120 + deviceId.length,
  separatorBytes: 0,
};
