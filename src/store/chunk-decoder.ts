// Decodes chunks: chunk-format.ts has the format.

import { crc32 } from 'node:zlib';
import type { DeviceId } from '../core/device.ts';
import {
  gatewayMessageId,
  gatewayMessageIdPrefix,
  PROPERTY_FIELDPOST_ID,
  type HubStamps,
  type Message,
  type StoredMessage,
  type SystemProperties,
} from '../core/message.ts';
import type { Timestamp } from '../core/time.ts';
import { ByteReader } from './byte-reader.ts';
import { nextField, type Field } from './chunk-fields.ts';
import {
  CHUNK_VERSION,
  clockOfCode,
  FIELD,
  HEADER_FIELD,
  HEADER_FIXED_BYTES,
  MAGIC,
  hubStampsOf,
  RECORD_FLAG,
  STAMP_CODES,
  SYSTEM_PROPERTY_CODES,
  SYSTEM_PROPERTY_END,
  toWhole,
  type Chunk,
  type RecordFrame,
  type RecordIndex,
  type Stamps,
} from './chunk-format.ts';
import { indexRecords1, readFrame1 } from './chunk-version-1.ts';

/** Undefined when the bytes are not a whole, undamaged chunk for that offset. */
export function decodeChunk(bytes: Buffer, firstOffset: number): Chunk | undefined {
  if (bytes.length < HEADER_FIXED_BYTES || bytes.readUInt32LE(0) !== MAGIC) return undefined;
  if (bytes.readUInt32LE(4) !== crc32(bytes.subarray(8))) return undefined;
  const version = bytes[8] as number;
  const headerBytes = bytes.readUInt16LE(10);
  const count = bytes.readUInt32LE(12);
  if (bytes.readDoubleLE(16) !== firstOffset || headerBytes < HEADER_FIXED_BYTES || count > bytes.length) {
    return undefined;
  }
  const index = version === 1 ? indexRecords1(bytes, headerBytes, count) : indexRecords(bytes, headerBytes, count);
  if (version > CHUNK_VERSION || index?.positions[count] !== bytes.length) return undefined;
  const texts = new Map<number, string>();
  const field = { tag: 0, from: 0, to: HEADER_FIXED_BYTES };
  while (nextField(bytes, field, headerBytes)) texts.set(field.tag, bytes.toString('utf8', field.from, field.to));
  return {
    ...index,
    version,
    bytes,
    systemProperties: undefined,
    stamps: undefined,
    messages: [],
    idPrefixes: [],
    last: { sinceUs: 0, rest: 0, code: 0, time: undefined },
    count,
    firstOffset,
    epoch: texts.get(HEADER_FIELD.epoch) ?? '',
    logBytesBefore: bytes.readDoubleLE(24),
    shelfMs: bytes.readDoubleLE(32),
    time: {
      bootId: texts.get(HEADER_FIELD.bootId) ?? '',
      clock: clockOfCode(bytes[9]),
      wallMs: bytes.readDoubleLE(40),
      monotonicMs: bytes.readDoubleLE(48),
    },
  };
}

/** Walks over the records: each says where the next one begins, and what it leaves out of its device and `seq`. */
function indexRecords(bytes: Buffer, firstPosition: number, count: number): RecordIndex {
  const positions = new Uint32Array(count + 1);
  const deviceIndexes = new Uint32Array(count);
  const seqs = new Float64Array(count);
  const devices: DeviceId[] = [];
  const lastSeqs: number[] = [];
  const reader = new ByteReader(bytes, firstPosition);
  for (let index = 0; index < count; index += 1) {
    positions[index] = reader.position;
    const flags = reader.uint8();
    let device: number;
    let seq: number;
    if ((flags & RECORD_FLAG.newDevice) !== 0) {
      device = devices.length;
      const shared = devices.at(-1)?.slice(0, reader.varint()) ?? (reader.skipVarint(), '');
      devices.push((shared + reader.latin1()) as DeviceId);
      seq = reader.varint();
    } else {
      device = reader.varint();
      seq = (flags & RECORD_FLAG.seq) === 0 ? (lastSeqs[device] ?? 0) + 1 : reader.varint();
    }
    lastSeqs[device] = seq;
    deviceIndexes[index] = device;
    seqs[index] = seq;
    reader.skipVarint();
    if ((flags & RECORD_FLAG.wall) !== 0) reader.skipVarint();
    if ((flags & RECORD_FLAG.timeAt) !== 0) reader.skipVarint();
    if ((flags & RECORD_FLAG.sameSystemProperties) !== 0) reader.skipVarint();
    if ((flags & RECORD_FLAG.fields) !== 0) reader.skip(reader.varint());
    reader.skip(reader.varint());
  }
  positions[count] = reader.position;
  return { positions, devices, deviceIndexes, seqs };
}

function readFrame(chunk: Chunk, index: number, into: RecordFrame): RecordFrame {
  const { bytes, positions } = chunk;
  const reader = new ByteReader(bytes, positions[index] as number);
  const flags = reader.uint8();
  if ((flags & RECORD_FLAG.newDevice) !== 0) {
    reader.skipVarint();
    reader.skip(reader.varint());
    reader.skipVarint();
  } else {
    reader.skipVarint();
    if ((flags & RECORD_FLAG.seq) !== 0) reader.skipVarint();
  }
  const sinceUs = reader.signedVarint();
  const rest = (flags & RECORD_FLAG.wall) === 0 ? 0 : reader.signedVarint();
  const timeAt = (flags & RECORD_FLAG.timeAt) === 0 ? undefined : reader.varint();
  let sharedFrom = -1;
  let sharedTo = -1;
  if ((flags & RECORD_FLAG.sameSystemProperties) !== 0) {
    const shared = new ByteReader(bytes, (positions[0] as number) + reader.varint());
    sharedTo = shared.varint();
    sharedFrom = shared.position;
    sharedTo += sharedFrom;
  }
  const fieldsBytes = (flags & RECORD_FLAG.fields) === 0 ? 0 : reader.varint();
  const fieldsFrom = reader.position;
  reader.skip(fieldsBytes);
  const bodyBytes = reader.varint();
  into.time = timeOf(chunk, sinceUs, rest, flags & RECORD_FLAG.clock);
  into.timeAt = timeAt;
  into.sharedFrom = sharedFrom;
  into.sharedTo = sharedTo;
  into.fieldsFrom = fieldsFrom;
  into.fieldsTo = fieldsFrom + fieldsBytes;
  into.bodyFrom = reader.position;
  into.bodyTo = reader.position + bodyBytes;
  return into;
}

/** What came in together has one time: its records share the object. */
function timeOf(chunk: Chunk, sinceUs: number, rest: number, code: number): Timestamp {
  const { last, time } = chunk;
  if (last.time !== undefined && last.sinceUs === sinceUs && last.rest === rest && last.code === code) return last.time;
  last.sinceUs = sinceUs;
  last.rest = rest;
  last.code = code;
  last.time = {
    bootId: time.bootId,
    monotonicMs: (toWhole(time.monotonicMs * 1000) + sinceUs) / 1000,
    wallMs: toWhole(time.wallMs) + Math.round(sinceUs / 1000) + rest,
    clock: clockOfCode(code),
  };
  return last.time;
}

function frameOf(chunk: Chunk, index: number, into: RecordFrame = createFrame(chunk.time)): RecordFrame {
  return chunk.version === 1 ? readFrame1(chunk, index) : readFrame(chunk, index, into);
}

function createFrame(time: Timestamp): RecordFrame {
  return { time, timeAt: undefined, sharedFrom: -1, sharedTo: -1, fieldsFrom: 0, fieldsTo: 0, bodyFrom: 0, bodyTo: 0 };
}

/** Of the record being decoded: one for all of them, nothing of it is kept. */
const FRAME = createFrame({ bootId: '', monotonicMs: 0, wallMs: 0, clock: 'unknown' });

/** Whose a record is and its number, without the rest of it. */
export interface RecordIdentity {
  readonly deviceId: DeviceId;
  readonly epoch: string;
  readonly seq: number;
  /** It left the quarantine: its number is an older one, and says nothing of those around it. */
  readonly again: boolean;
  /** Undefined: every queue that takes all. */
  readonly onlyQueues: readonly number[] | undefined;
}

export function decodeIdentity(chunk: Chunk, index: number): RecordIdentity {
  const { bytes } = chunk;
  const { fieldsFrom, fieldsTo } = frameOf(chunk, index);
  let epoch: string | undefined;
  let onlyQueues: number[] | undefined;
  const field = { tag: 0, from: 0, to: fieldsFrom };
  while (nextField(bytes, field, fieldsTo)) {
    if (field.tag === FIELD.onlyQueues) onlyQueues = readIds(bytes, field.from, field.to);
    else if (field.tag === FIELD.againOfEpoch) epoch = bytes.toString('utf8', field.from, field.to);
  }
  return {
    deviceId: deviceOf(chunk, index),
    epoch: epoch ?? chunk.epoch,
    seq: chunk.seqs[index] as number,
    again: epoch !== undefined,
    onlyQueues,
  };
}

function deviceOf(chunk: Chunk, index: number): DeviceId {
  return chunk.devices[chunk.deviceIndexes[index] as number] ?? ('' as DeviceId);
}

function readIds(bytes: Buffer, from: number, to: number): number[] {
  const ids: number[] = [];
  for (let at = from; at + 2 <= to; at += 2) ids.push(bytes.readUInt16LE(at));
  return ids;
}

const NO_PROPERTIES = Object.freeze({});

/** What few messages have beside their body and time. */
interface Rare {
  epoch?: string;
  bootId?: string;
  hubId: string | undefined;
  moduleId: string | undefined;
  hub: HubStamps | undefined;
}

/** The message of a record. Its body is a view of the chunk, not a copy. */
export function decodeRecord(chunk: Chunk, index: number): StoredMessage {
  const { bytes } = chunk;
  const frame = frameOf(chunk, index, FRAME);
  const deviceId = deviceOf(chunk, index);
  const seq = chunk.seqs[index] as number;
  let rare: Rare | undefined;
  let properties: Record<string, string> = NO_PROPERTIES;
  let { sharedFrom, sharedTo } = frame;
  if (frame.fieldsFrom < frame.fieldsTo) {
    let propertyName = '';
    const field = { tag: 0, from: 0, to: frame.fieldsFrom };
    for (let at = field.to; nextField(bytes, field, frame.fieldsTo); at = field.to) {
      const { tag, from, to } = field;
      if (tag >= FIELD.systemProperty && tag < SYSTEM_PROPERTY_END) {
        if (sharedFrom < 0) [sharedFrom, sharedTo] = [at, frame.fieldsTo];
      } else if (tag === FIELD.propertyName) propertyName = bytes.toString('utf8', from, to);
      else if (tag === FIELD.propertyValue) {
        if (properties === NO_PROPERTIES) properties = {};
        setProperty(properties, propertyName, bytes.toString('utf8', from, to));
      } else if (RARE_FIELDS.has(tag)) {
        rare ??= { hubId: undefined, moduleId: undefined, hub: undefined };
        readRare(chunk, index, field, rare);
      }
    }
  }
  const systemProperties: SystemProperties =
    sharedFrom < 0 ? NO_PROPERTIES : readSystemProperties(chunk, sharedFrom, sharedTo);
  const ownId = rare?.epoch === undefined ? ownIdOf(chunk, index) : gatewayMessageId(rare.epoch, deviceId, seq);
  const givenId = systemProperties.messageId;
  const body = bytes.subarray(frame.bodyFrom, frame.bodyTo);
  // A message that came with its own id keeps it; ours goes along as a property.
  if (givenId !== undefined) properties = { ...properties, [PROPERTY_FIELDPOST_ID]: ownId };
  // Written out where nothing is rare: putting an object together from parts takes several times its memory, and this is
  // most of what a delivery allocates.
  const message: Message =
    rare === undefined && frame.timeAt === undefined
      ? { deviceId, body, properties, systemProperties, time: frame.time }
      : {
          ...(rare?.hubId === undefined ? {} : { hubId: rare.hubId }),
          ...(rare?.hub === undefined ? {} : { hub: rare.hub }),
          deviceId,
          ...(rare?.moduleId === undefined ? {} : { moduleId: rare.moduleId }),
          body,
          properties,
          systemProperties,
          time: rare?.bootId === undefined ? frame.time : { ...frame.time, bootId: rare.bootId },
          ...(frame.timeAt === undefined ? {} : { stamps: { timeAt: frame.timeAt } }),
        };
  const offset = chunk.firstOffset + index;
  return { offset, seq, epoch: rare?.epoch ?? chunk.epoch, messageId: givenId ?? ownId, message };
}

const RARE_FIELDS: ReadonlySet<number> = new Set([
  FIELD.bootId,
  FIELD.hubId,
  FIELD.moduleId,
  FIELD.againOfEpoch,
  FIELD.stamps,
  FIELD.sameStamps,
]);

function readRare(chunk: Chunk, index: number, { tag, from, to }: Field, rare: Rare): void {
  const { bytes } = chunk;
  if (tag === FIELD.stamps || tag === FIELD.sameStamps) {
    const stamps = readStamps(chunk, tag === FIELD.stamps ? index : new ByteReader(bytes, from).varint());
    rare.hub = hubStampsOf(stamps);
    rare.hubId = stamps.hubId;
    rare.moduleId = stamps.moduleId;
    return;
  }
  const text = bytes.toString('utf8', from, to);
  if (tag === FIELD.bootId) rare.bootId = text;
  else if (tag === FIELD.hubId) rare.hubId = text;
  else if (tag === FIELD.moduleId) rare.moduleId = text;
  else rare.epoch = text;
}

/** The gateway's id of a record that has the epoch of its chunk: only the number is new from one to the next. */
function ownIdOf(chunk: Chunk, index: number): string {
  const device = chunk.deviceIndexes[index] as number;
  const prefix = (chunk.idPrefixes[device] ??= gatewayMessageIdPrefix(chunk.epoch, deviceOf(chunk, index)));
  return prefix + String(chunk.seqs[index]);
}

function setProperty(properties: Record<string, string>, name: string, value: string): void {
  // An own property even for the name `__proto__`, which a plain assignment would lose.
  if (name === '__proto__') Object.defineProperty(properties, name, { value, enumerable: true });
  else properties[name] = value;
}

/** The stamps that stand in a record; an earlier one has the texts that it leaves out. */
function readStamps(chunk: Chunk, index: number): Stamps {
  const known = chunk.stamps?.get(index);
  if (known !== undefined) return known;
  const { bytes } = chunk;
  const stamps: Stamps = {};
  const { fieldsFrom, fieldsTo } = frameOf(chunk, index);
  const outer = { tag: 0, from: 0, to: fieldsFrom };
  while (nextField(bytes, outer, fieldsTo)) {
    if (outer.tag !== FIELD.stamps) continue;
    const field = { tag: 0, from: 0, to: outer.from };
    while (nextField(bytes, field, outer.to)) {
      const code = STAMP_CODES[field.tag >> 1];
      if (code === undefined) continue;
      const isText = field.tag % 2 === 0;
      const place = isText ? index : new ByteReader(bytes, field.from).varint();
      const text = isText
        ? bytes.toString('utf8', field.from, field.to)
        : place < index
          ? readStamps(chunk, place)[code]
          : undefined;
      if (text !== undefined) stamps[code] = text;
    }
  }
  (chunk.stamps ??= new Map()).set(index, stamps);
  return stamps;
}

/** The system properties that stand together at `at`; shared by the records of the chunk that have the same. */
function readSystemProperties(chunk: Chunk, at: number, end: number): SystemProperties {
  const known = chunk.systemProperties?.get(at);
  if (known !== undefined) return known;
  const { bytes } = chunk;
  const properties: { -readonly [Name in keyof SystemProperties]: string } = {};
  const field = { tag: 0, from: at, to: at };
  while (nextField(bytes, field, end)) {
    if (field.tag < FIELD.systemProperty || field.tag >= SYSTEM_PROPERTY_END) break;
    const name = SYSTEM_PROPERTY_CODES[field.tag - FIELD.systemProperty];
    if (name !== undefined) properties[name] = bytes.toString('utf8', field.from, field.to);
  }
  Object.freeze(properties);
  // Messages with ids of their own have nothing to share.
  if (properties.messageId === undefined) (chunk.systemProperties ??= new Map()).set(at, properties);
  return properties;
}
