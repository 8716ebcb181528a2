// Readings to one JSON message (design, section 6):
// {"device":"meter-1","time":"2026-01-02T03:04:05.678Z","epoch":"k3f9","seq":17,"values":{"voltage":230.1}}
// `epoch` and `seq` are inserted by the commit, `time` may be corrected by the pump; both at recorded byte positions.

import type { Message } from '../core/message.ts';
import { qualityText, type PointValue, type ReadingBatch } from '../core/reading.ts';
import { ISO_TIME_BYTES, isoTime } from '../core/time.ts';

const JSON_PROPERTIES = Object.freeze({ contentType: 'application/json', contentEncoding: 'utf-8' });
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

export function encodeReadings(batch: ReadingBatch): Message {
  // A device id is ASCII without quotes and backslashes, so characters are bytes up to here.
  const head = `{"device":"${batch.deviceId}","time":"`;
  let values = '';
  let quality = '';
  for (const reading of batch.readings) {
    const name = JSON.stringify(reading.point);
    if (reading.value !== undefined && reading.quality.level !== 'bad') {
      values += `${values === '' ? '' : ','}${name}:${encodeValue(reading.value)}`;
    }
    if (reading.quality.level !== 'good') {
      quality += `${quality === '' ? '' : ','}${name}:${JSON.stringify(qualityText(reading.quality))}`;
    }
  }
  const qualityPart = quality === '' ? '' : `,"quality":{${quality}}`;
  const clockPart = batch.time.clock === 'synced' ? '' : `,"clock":"${batch.time.clock}"`;
  const text = `${head}${isoTime(batch.time.wallMs)}","values":{${values}}${qualityPart}${clockPart}}`;
  return {
    deviceId: batch.deviceId,
    body: Buffer.from(text, 'utf8'),
    properties: NO_PROPERTIES,
    systemProperties: JSON_PROPERTIES,
    time: batch.time,
    stamps: { timeAt: head.length, identityAt: head.length + ISO_TIME_BYTES + 1 },
  };
}
