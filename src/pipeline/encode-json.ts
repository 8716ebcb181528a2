// JSON (design, section 6):
// {"device":"meter-1","time":"2026-01-02T03:04:05.678Z","epoch":"k3f9","seq":17,"values":{"voltage":230.1}}
// and packed
// {"device":"meter-1","time":"2026-…","epoch":"k3f9","seq":17,"samples":[{"offset_ms":0,"values":{…}},{"offset_ms":1000,…}]}

import { JSON_CONTENT_TYPE } from '../core/body.ts';
import type { Message } from '../core/message.ts';
import { qualityText, type PointValue, type ReadingBatch } from '../core/reading.ts';
import { ISO_TIME_BYTES, isoTime, type Timestamp } from '../core/time.ts';
import type { EncodedFormat, Piece } from './body-format.ts';

const PROPERTIES = Object.freeze({ contentType: JSON_CONTENT_TYPE, contentEncoding: 'utf-8' });
const NO_PROPERTIES = Object.freeze({});

/** JSON of a value; integers beyond 2^53-1 are strings, bytes are hexadecimal. */
export function encodeValue(value: PointValue): string {
  if (typeof value === 'number') return JSON.stringify(value);
  if (typeof value === 'bigint') {
    const safe = value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER);
    return safe ? value.toString() : `"${value}"`;
  }
  if (value instanceof Uint8Array)
    return `"${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}"`;
  return JSON.stringify(value);
}

/** `"values":{…}`, and `,"quality":{…}` where one is not good. */
function content({ readings }: ReadingBatch): string {
  let values = '';
  let quality = '';
  for (const reading of readings) {
    const name = JSON.stringify(reading.point);
    if (reading.value !== undefined && reading.quality.level !== 'bad') {
      values += `${values === '' ? '' : ','}${name}:${encodeValue(reading.value)}`;
    }
    if (reading.quality.level !== 'good') {
      quality += `${quality === '' ? '' : ','}${name}:${JSON.stringify(qualityText(reading.quality))}`;
    }
  }
  return `"values":{${values}}${quality === '' ? '' : `,"quality":{${quality}}`}`;
}

function message(deviceId: Message['deviceId'], time: Timestamp, rest: string): Message {
  // A device id is ASCII without quotes and backslashes, so characters are bytes up to the identity.
  const head = `{"device":"${deviceId}","time":"`;
  const clock = time.clock === 'synced' ? '' : `,"clock":"${time.clock}"`;
  return {
    deviceId,
    body: Buffer.from(`${head}${isoTime(time.wallMs)}",${rest}${clock}}`, 'utf8'),
    properties: NO_PROPERTIES,
    systemProperties: PROPERTIES,
    time,
    stamps: { timeAt: head.length, identityAt: head.length + ISO_TIME_BYTES + 1 },
  };
}

export const jsonFormat: EncodedFormat = {
  single: (batch) => message(batch.deviceId, batch.time, content(batch)),
  piece: (batch, offsetMs) => `{"offset_ms":${offsetMs},${content(batch)}}`,
  packed: (deviceId, time, pieces: readonly Piece[]) => message(deviceId, time, `"samples":[${pieces.join(',')}]`),
  // Device, time, identity, clock and brackets with room for the longest of each.
  overheadBytes: (deviceId) => 160 + deviceId.length,
  separatorBytes: 1,
};
