// SenML as JSON (RFC 8428): a list of records. The first carries base name and base time; `t` is relative to it.
// [{"bn":"meter-1:","bt":1767323045.678,"n":"voltage","u":"V","v":230.1},…,{"n":"epoch","vs":"k3f9"},{"n":"seq","v":17}]
//
// SenML has no word for quality: a point that is not good has a record NAME:quality beside it, a clock that is not
// synchronised a record `clock`. Names have letters, digits and - : . / _ only (4.5.1); others are written _uXXXX. So is the
// first character of what would read as one of ours, so that no two records of a body have one name.

import { SENML_CONTENT_TYPE } from '../core/body.ts';
import type { Message } from '../core/message.ts';
import { qualityText, type PointValue, type Reading, type ReadingBatch } from '../core/reading.ts';
import { senmlTime, type Timestamp } from '../core/time.ts';
import type { EncodedFormat, Piece } from './body-format.ts';

const PROPERTIES = Object.freeze({ contentType: SENML_CONTENT_TYPE, contentEncoding: 'utf-8' });
const NO_PROPERTIES = Object.freeze({});
/** Not allowed in a name, or the beginning of what reads as written so. */
const UNSAFE = /[^A-Za-z0-9\-:./_]|_(?=u[0-9A-Fa-f]{4})/g;
/** Where the name of a record of ours begins, or that of one beside a point. */
const OWN_NAME = /^c(?=lock$)|^e(?=poch$)|^s(?=eq$)|:(?=quality$)/;

function escaped(char: string): string {
  return `_u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function senmlName(text: string): string {
  return text.replace(UNSAFE, escaped);
}

function pointName(text: string): string {
  return senmlName(text).replace(OWN_NAME, escaped);
}

/** A base name must begin with a letter or digit (4.5.1). */
function baseName(deviceId: string): string {
  const name = senmlName(deviceId);
  return /^[A-Za-z0-9]/.test(name) ? name : `d${name}`;
}

/** Signs that people write where the registry of units has plain letters (12.1; RFC 8798). */
const UNIT_SIGNS: Readonly<Record<string, string>> = {
  '\u00b0': 'deg',
  '\u00b0C': 'Cel',
  '\u2103': 'Cel',
  '\u00b2': '2',
  '\u00b3': '3',
  // Greek letters, and the signs that look like them.
  '\u03a9': 'Ohm',
  '\u2126': 'Ohm',
  '\u00b5': 'u',
  '\u03bc': 'u',
};
const UNIT_SIGN = /^\u00b0$|\u00b0C|[\u2103\u00b2\u00b3\u03a9\u2126\u00b5\u03bc]/g;

function senmlUnit(unit: string): string {
  return unit.replace(UNIT_SIGN, (sign) => UNIT_SIGNS[sign] ?? sign);
}

function value(value: PointValue): string {
  if (typeof value === 'boolean') return `"vb":${value}`;
  if (typeof value === 'string') return `"vs":${JSON.stringify(value)}`;
  if (typeof value === 'number') return `"v":${JSON.stringify(value)}`;
  if (value instanceof Uint8Array) {
    return `"vd":"${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64url')}"`;
  }
  const safe = value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER);
  return safe ? `"v":${value}` : `"vs":"${value}"`;
}

function records(readings: readonly Reading[], offsetMs: number): string {
  const time = offsetMs === 0 ? '' : `,"t":${offsetMs / 1000}`;
  const parts: string[] = [];
  for (const reading of readings) {
    const name = pointName(reading.point);
    if (reading.value !== undefined && reading.quality.level !== 'bad') {
      const unit = reading.unit === undefined ? '' : `,"u":${JSON.stringify(senmlUnit(reading.unit))}`;
      parts.push(`{"n":"${name}"${unit},${value(reading.value)}${time}}`);
    }
    if (reading.quality.level !== 'good') {
      parts.push(`{"n":"${name}:quality","vs":${JSON.stringify(qualityText(reading.quality))}${time}}`);
    }
  }
  return parts.join(',');
}

function message(deviceId: Message['deviceId'], time: Timestamp, list: string): Message {
  const head = `[{"bn":"${baseName(deviceId)}:","bt":`;
  // The base goes into the first record, whose opening brace stands in the head.
  const clock = time.clock === 'synced' ? '' : `,{"n":"clock","vs":"${time.clock}"}`;
  const body = Buffer.from(`${head}${senmlTime(time.wallMs)},${list.slice(1)}${clock}]`, 'utf8');
  return {
    deviceId,
    body,
    properties: NO_PROPERTIES,
    systemProperties: PROPERTIES,
    time,
    stamps: { timeAt: head.length, identityAt: body.length - 1 },
  };
}

export const senmlFormat: EncodedFormat = {
  single: (batch: ReadingBatch) => message(batch.deviceId, batch.time, records(batch.readings, 0)),
  piece: ({ readings }, offsetMs) => records(readings, offsetMs),
  packed: (deviceId, time, pieces: readonly Piece[]) => message(deviceId, time, pieces.join(',')),
  // Base name (six characters for one at worst), base time, identity and clock.
  overheadBytes: (deviceId) => 160 + deviceId.length * 6,
  separatorBytes: 1,
};
