// Records of version 1, which earlier releases wrote and stores may still hold. The chunk's header is the same.
//
// record  0 record bytes u32 | 4 fixed bytes u8 | 5 clock u8 | 6 seq u48 | 12 wall ms u48 | 18 monotonic us u48
//        24 time at u16 (65535: none) | 26 fields; the body is the last one

import type { DeviceId } from '../core/device.ts';
import { nextField } from './chunk-fields.ts';
import { clockOfCode, FIELD, type Chunk, type RecordFrame, type RecordIndex } from './chunk-format.ts';

const RECORD_FIXED_BYTES = 26;
/** No place of `time` in the body. */
const NO_TIME = 0xffff;

/** Undefined when the lengths of the records do not fit. */
export function indexRecords1(bytes: Buffer, firstPosition: number, count: number): RecordIndex | undefined {
  const positions = new Uint32Array(count + 1);
  const deviceIndexes = new Uint32Array(count);
  const seqs = new Float64Array(count);
  const indexById = new Map<DeviceId, number>();
  let position = firstPosition;
  for (let index = 0; index < count; index += 1) {
    if (position + RECORD_FIXED_BYTES > bytes.length) return undefined;
    const end = position + bytes.readUInt32LE(position);
    const deviceId = readDeviceId(bytes, position, end);
    const deviceIndex = indexById.get(deviceId) ?? indexById.size;
    indexById.set(deviceId, deviceIndex);
    positions[index] = position;
    deviceIndexes[index] = deviceIndex;
    seqs[index] = bytes.readUIntLE(position + 6, 6);
    position = end;
  }
  positions[count] = position;
  return { positions, devices: [...indexById.keys()], deviceIndexes, seqs };
}

function firstField(bytes: Buffer, start: number): number {
  return start + (bytes[start + 4] as number);
}

function readDeviceId(bytes: Buffer, start: number, end: number): DeviceId {
  const field = { tag: 0, from: 0, to: firstField(bytes, start) };
  while (nextField(bytes, field, end)) {
    if (field.tag === FIELD.deviceId) return bytes.toString('latin1', field.from, field.to) as DeviceId;
  }
  return '' as DeviceId;
}

export function readFrame1({ bytes, positions, time }: Chunk, index: number): RecordFrame {
  const start = positions[index] as number;
  const end = positions[index + 1] as number;
  const timeAt = bytes.readUInt16LE(start + 24);
  const fieldsFrom = firstField(bytes, start);
  let [sharedFrom, sharedTo, bodyFrom, bodyTo] = [-1, -1, end, end];
  const field = { tag: 0, from: 0, to: fieldsFrom };
  while (nextField(bytes, field, end)) {
    if (field.tag === FIELD.sameSystemProperties) {
      [sharedFrom, sharedTo] = [bytes.readUInt32LE(field.from), bytes.length];
    } else if (field.tag === FIELD.body) [bodyFrom, bodyTo] = [field.from, field.to];
  }
  return {
    time: {
      bootId: time.bootId,
      monotonicMs: bytes.readUIntLE(start + 18, 6) / 1000,
      wallMs: bytes.readUIntLE(start + 12, 6),
      clock: clockOfCode(bytes[start + 5]),
    },
    timeAt: timeAt === NO_TIME ? undefined : timeAt,
    sharedFrom,
    sharedTo,
    fieldsFrom,
    fieldsTo: end,
    bodyFrom,
    bodyTo,
  };
}
