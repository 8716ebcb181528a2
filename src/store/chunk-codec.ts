// The value of one group commit. Additive: the header and each record name their own lengths, and what follows their
// fixed part is fields of tag, length (varint) and bytes, so that a reader skips what it does not know. Little-endian.
//
// chunk   0 magic u32 | 4 crc32 of all from 8 on u32 | 8 version u8 | 9 clock u8 | 10 header bytes u16 | 12 messages u32
//        16 first offset f64 | 24 log bytes before this chunk f64 | 32 shelf ms f64 | 40 wall ms f64 | 48 monotonic ms f64
//        56 fields (epoch, boot id) | records
// record  0 record bytes u32 | 4 fixed bytes u8 | 5 clock u8 | 6 seq u48 | 12 wall ms u48 | 18 monotonic us u48
//        24 time at u16 (65535: none) | 26 fields; the body is the last one

import { crc32 } from 'node:zlib';
import type { DeviceId } from '../core/device.ts';
import {
  gatewayMessageId,
  PROPERTY_FIELDPOST_ID,
  type Message,
  type StoredMessage,
  type SystemProperties,
} from '../core/message.ts';
import type { ClockQuality, Timestamp } from '../core/time.ts';
import { ByteWriter } from './byte-writer.ts';

const MAGIC = 0x48_43_50_46;
const VERSION = 1;
const HEADER_FIXED_BYTES = 56;
const RECORD_FIXED_BYTES = 26;
/** No place of `time` in the body. */
const NO_TIME = 0xffff;
const MAX_UINT48 = 2 ** 48 - 1;

const HEADER_FIELD = { epoch: 1, bootId: 2 } as const;
const FIELD = {
  deviceId: 1,
  bootId: 2,
  hubId: 3,
  moduleId: 4,
  /** An application property: its name, then its value. */
  propertyName: 5,
  propertyValue: 6,
  /** Position in the chunk of an earlier record's system properties, which are the same. */
  sameSystemProperties: 8,
  /** Ids (u16 each) of the only queues that take the message. */
  onlyQueues: 7,
  /** Plus the code of the system property. */
  systemProperty: 32,
  body: 127,
} as const;

/** Tags from `systemProperty` up to here are system properties, of this release or a later one. */
const SYSTEM_PROPERTY_END = 96;

/** Codes on disk: never reused, never renumbered. */
const CLOCK_CODES: readonly ClockQuality[] = ['unknown', 'restored', 'rtc', 'synced'];
const SYSTEM_PROPERTY_CODES: readonly (keyof SystemProperties)[] = [
  'messageId',
  'correlationId',
  'userId',
  'to',
  'absoluteExpiryTime',
  'contentType',
  'contentEncoding',
  'creationTimeUtc',
  'messageSchema',
  'componentName',
];

export interface ChunkHeader {
  readonly firstOffset: number;
  readonly count: number;
  readonly epoch: string;
  /** Bytes of all chunks before this one since the log began. */
  readonly logBytesBefore: number;
  /** The store's own clock at the commit: see shelf-clock.ts. */
  readonly shelfMs: number;
  readonly time: Timestamp;
}

/** A chunk whose checksum held. */
export interface Chunk extends ChunkHeader {
  readonly bytes: Buffer;
  /** Position of each record, and of the end. */
  readonly positions: Uint32Array;
  /** Those decoded so far, by position. */
  readonly systemProperties: Map<number, SystemProperties>;
}

function toUint48(value: number): number {
  return Math.min(Math.max(0, Math.round(value)), MAX_UINT48);
}

/** Bytes of records: what queues count. */
export function chunkRecordBytes(chunk: Chunk): number {
  return chunk.bytes.length - (chunk.positions[0] ?? chunk.bytes.length);
}

export function recordBytes(chunk: Chunk, index: number): number {
  return (chunk.positions[index + 1] ?? 0) - (chunk.positions[index] ?? 0);
}

export function clockCode(clock: ClockQuality): number {
  return Math.max(0, CLOCK_CODES.indexOf(clock));
}

export function clockOfCode(code: number | undefined): ClockQuality {
  return CLOCK_CODES[code ?? 0] ?? 'unknown';
}

/** Encodes one chunk straight into one buffer, which it reuses for the next. */
export class ChunkEncoder {
  readonly #writer = new ByteWriter(64 * 1024);
  #count = 0;
  #epoch = '';
  #bootId = '';
  #sharedProperties: SystemProperties | undefined;
  /** Where they stand; -1 when there are none. */
  #sharedAt = -1;

  get count(): number {
    return this.#count;
  }

  start(epoch: string, bootId: string): void {
    const writer = this.#writer;
    this.#count = 0;
    this.#epoch = epoch;
    this.#bootId = bootId;
    this.#sharedProperties = undefined;
    writer.reset(HEADER_FIXED_BYTES);
    writer.textField(HEADER_FIELD.epoch, epoch);
    writer.textField(HEADER_FIELD.bootId, bootId);
    writer.setUint16(10, writer.length);
  }

  /** Adds a message with its `seq`; `onlyQueues` when not every queue that takes all takes it. */
  add(message: Message, seq: number, onlyQueues?: readonly number[]): void {
    const writer = this.#writer;
    const start = writer.reserve(RECORD_FIXED_BYTES);
    const { time } = message;
    writer.setUint8(start + 4, RECORD_FIXED_BYTES);
    writer.setUint8(start + 5, clockCode(time.clock));
    writer.setUint48(start + 6, seq);
    writer.setUint48(start + 12, toUint48(time.wallMs));
    writer.setUint48(start + 18, toUint48(time.monotonicMs * 1000));
    writer.textField(FIELD.deviceId, message.deviceId);
    if (time.bootId !== this.#bootId) writer.textField(FIELD.bootId, time.bootId);
    if (message.hubId !== undefined) writer.textField(FIELD.hubId, message.hubId);
    if (message.moduleId !== undefined) writer.textField(FIELD.moduleId, message.moduleId);
    this.#properties(message.properties);
    this.#systemProperties(message.systemProperties);
    if (onlyQueues !== undefined) {
      writer.uint8(FIELD.onlyQueues);
      writer.varint(onlyQueues.length * 2);
      for (const id of onlyQueues) writer.setUint16(writer.reserve(2), id);
    }
    writer.setUint16(start + 24, this.#body(message, seq));
    writer.setUint32(start, writer.length - start);
    this.#count += 1;
  }

  #properties(properties: Readonly<Record<string, string>>): void {
    const writer = this.#writer;
    for (const name in properties) {
      writer.textField(FIELD.propertyName, name);
      writer.textField(FIELD.propertyValue, properties[name] as string);
    }
  }

  /** Polls share one object: the bytes stand in the chunk once, for the first of them. */
  #systemProperties(properties: SystemProperties): void {
    const writer = this.#writer;
    if (properties === this.#sharedProperties) {
      if (this.#sharedAt < 0) return;
      writer.uint8(FIELD.sameSystemProperties);
      writer.varint(4);
      writer.uint32(this.#sharedAt);
      return;
    }
    this.#sharedProperties = properties;
    this.#sharedAt = -1;
    for (let code = 0; code < SYSTEM_PROPERTY_CODES.length; code += 1) {
      const value = properties[SYSTEM_PROPERTY_CODES[code] as keyof SystemProperties];
      if (value === undefined) continue;
      if (this.#sharedAt < 0) this.#sharedAt = writer.length;
      writer.textField(FIELD.systemProperty + code, value);
    }
  }

  /** Writes the body with the identity inserted; returns where its `time` stands. */
  #body(message: Message, seq: number): number {
    const writer = this.#writer;
    const { body, stamps } = message;
    const identityAt = stamps?.identityAt;
    let timeAt = stamps?.timeAt ?? NO_TIME;
    writer.uint8(FIELD.body);
    if (identityAt === undefined) {
      writer.varint(body.length);
      writer.bytes(body);
    } else {
      const identity = `,"epoch":"${this.#epoch}","seq":${seq}`;
      writer.varint(body.length + identity.length);
      writer.bytes(body.subarray(0, identityAt));
      writer.ascii(identity);
      writer.bytes(body.subarray(identityAt));
      if (timeAt >= identityAt) timeAt += identity.length;
    }
    return Math.min(timeAt, NO_TIME);
  }

  /** The chunk in a buffer of its own. */
  finish(at: Omit<ChunkHeader, 'count' | 'epoch'>): Buffer {
    const writer = this.#writer;
    writer.setUint32(0, MAGIC);
    writer.setUint8(8, VERSION);
    writer.setUint8(9, clockCode(at.time.clock));
    writer.setUint32(12, this.#count);
    writer.setFloat64(16, at.firstOffset);
    writer.setFloat64(24, at.logBytesBefore);
    writer.setFloat64(32, at.shelfMs);
    writer.setFloat64(40, at.time.wallMs);
    writer.setFloat64(48, at.time.monotonicMs);
    writer.setUint32(4, crc32(writer.view().subarray(8)));
    return writer.copy();
  }
}

/** Undefined when the bytes are not a whole, undamaged chunk for that offset. */
export function decodeChunk(bytes: Buffer, firstOffset: number): Chunk | undefined {
  if (bytes.length < HEADER_FIXED_BYTES || bytes.readUInt32LE(0) !== MAGIC) return undefined;
  if (bytes.readUInt32LE(4) !== crc32(bytes.subarray(8))) return undefined;
  const headerBytes = bytes.readUInt16LE(10);
  const count = bytes.readUInt32LE(12);
  if (bytes.readDoubleLE(16) !== firstOffset || headerBytes < HEADER_FIXED_BYTES) return undefined;
  const positions = new Uint32Array(count + 1);
  let position = headerBytes;
  for (let index = 0; index < count; index += 1) {
    positions[index] = position;
    if (position + RECORD_FIXED_BYTES > bytes.length) return undefined;
    position += bytes.readUInt32LE(position);
  }
  positions[count] = position;
  if (position !== bytes.length) return undefined;
  const texts = readTexts(bytes, HEADER_FIXED_BYTES, headerBytes);
  return {
    bytes,
    positions,
    systemProperties: new Map(),
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

function readTexts(bytes: Buffer, from: number, to: number): Map<number, string> {
  const texts = new Map<number, string>();
  const field = { tag: 0, from, to: from };
  while (nextField(bytes, field, to)) texts.set(field.tag, bytes.toString('utf8', field.from, field.to));
  return texts;
}

interface Field {
  tag: number;
  from: number;
  to: number;
}

/** Moves on to the field behind `field.to`; false at the end. */
function nextField(bytes: Buffer, field: Field, end: number): boolean {
  let at = field.to;
  if (at >= end) return false;
  field.tag = bytes[at] as number;
  at += 1;
  let length = 0;
  let shift = 0;
  let byte;
  do {
    byte = bytes[at] as number;
    length |= (byte & 0x7f) << shift;
    shift += 7;
    at += 1;
  } while (byte > 0x7f);
  field.from = at;
  field.to = at + length;
  return true;
}

function firstField(bytes: Buffer, start: number): Field {
  const at = start + (bytes[start + 4] as number);
  return { tag: 0, from: at, to: at };
}

/** Device, `seq` and the queues of a record, without the rest of it. */
export interface RecordIdentity {
  readonly deviceId: DeviceId;
  readonly seq: number;
  /** Undefined: every queue that takes all. */
  readonly onlyQueues: readonly number[] | undefined;
}

export function decodeIdentity(chunk: Chunk, index: number): RecordIdentity {
  const { bytes } = chunk;
  const start = chunk.positions[index] as number;
  const end = start + bytes.readUInt32LE(start);
  let deviceId = '';
  let onlyQueues: number[] | undefined;
  const field = firstField(bytes, start);
  while (nextField(bytes, field, end)) {
    if (field.tag === FIELD.deviceId) deviceId = bytes.toString('latin1', field.from, field.to);
    else if (field.tag === FIELD.onlyQueues) onlyQueues = readIds(bytes, field.from, field.to);
  }
  return { deviceId: deviceId as DeviceId, seq: bytes.readUIntLE(start + 6, 6), onlyQueues };
}

function readIds(bytes: Buffer, from: number, to: number): number[] {
  const ids: number[] = [];
  for (let at = from; at + 2 <= to; at += 2) ids.push(bytes.readUInt16LE(at));
  return ids;
}

const NO_PROPERTIES = Object.freeze({});

/** The message of a record. Its body is a view of the chunk, not a copy. */
export function decodeRecord(chunk: Chunk, index: number): StoredMessage {
  const { bytes, epoch } = chunk;
  const start = chunk.positions[index] as number;
  const end = start + bytes.readUInt32LE(start);
  const seq = bytes.readUIntLE(start + 6, 6);
  const timeAt = bytes.readUInt16LE(start + 24);
  let deviceId = '' as DeviceId;
  let bootId = chunk.time.bootId;
  let hubId: string | undefined;
  let moduleId: string | undefined;
  let properties: Record<string, string> = NO_PROPERTIES;
  let propertyName = '';
  let systemPropertiesAt = -1;
  let body: Uint8Array = bytes.subarray(end, end);
  const field = firstField(bytes, start);
  for (let at = field.to; nextField(bytes, field, end); at = field.to) {
    const { tag, from, to } = field;
    if (tag === FIELD.body) body = bytes.subarray(from, to);
    else if (tag === FIELD.deviceId) deviceId = bytes.toString('latin1', from, to) as DeviceId;
    else if (tag === FIELD.sameSystemProperties) systemPropertiesAt = bytes.readUInt32LE(from);
    else if (tag >= FIELD.systemProperty && tag < SYSTEM_PROPERTY_END) {
      if (systemPropertiesAt < 0) systemPropertiesAt = at;
    } else if (tag === FIELD.propertyName) propertyName = bytes.toString('utf8', from, to);
    else if (tag === FIELD.propertyValue) {
      if (properties === NO_PROPERTIES) properties = {};
      setProperty(properties, propertyName, bytes.toString('utf8', from, to));
    } else if (tag === FIELD.bootId) bootId = bytes.toString('utf8', from, to);
    else if (tag === FIELD.hubId) hubId = bytes.toString('utf8', from, to);
    else if (tag === FIELD.moduleId) moduleId = bytes.toString('utf8', from, to);
  }
  const systemProperties: SystemProperties =
    systemPropertiesAt < 0 ? NO_PROPERTIES : readSystemProperties(chunk, systemPropertiesAt);
  const ownId = gatewayMessageId(epoch, deviceId, seq);
  const givenId = systemProperties.messageId;
  return {
    offset: chunk.firstOffset + index,
    seq,
    epoch,
    messageId: givenId ?? ownId,
    message: {
      ...(hubId === undefined ? {} : { hubId }),
      deviceId,
      ...(moduleId === undefined ? {} : { moduleId }),
      body,
      // A message that came with its own id keeps it; ours goes along as a property.
      properties: givenId === undefined ? properties : { ...properties, [PROPERTY_FIELDPOST_ID]: ownId },
      systemProperties,
      time: {
        bootId,
        clock: clockOfCode(bytes[start + 5]),
        wallMs: bytes.readUIntLE(start + 12, 6),
        monotonicMs: bytes.readUIntLE(start + 18, 6) / 1000,
      },
      ...(timeAt === NO_TIME ? {} : { stamps: { timeAt } }),
    },
  };
}

function setProperty(properties: Record<string, string>, name: string, value: string): void {
  // An own property even for the name `__proto__`, which a plain assignment would lose.
  if (name === '__proto__') Object.defineProperty(properties, name, { value, enumerable: true });
  else properties[name] = value;
}

/** The system properties whose first field stands at `at`; shared by the records of the chunk that have the same. */
function readSystemProperties(chunk: Chunk, at: number): SystemProperties {
  const known = chunk.systemProperties.get(at);
  if (known !== undefined) return known;
  const { bytes } = chunk;
  const properties: { -readonly [Name in keyof SystemProperties]: string } = {};
  const field = { tag: 0, from: at, to: at };
  while (nextField(bytes, field, bytes.length)) {
    if (field.tag < FIELD.systemProperty || field.tag >= SYSTEM_PROPERTY_END) break;
    const name = SYSTEM_PROPERTY_CODES[field.tag - FIELD.systemProperty];
    if (name !== undefined) properties[name] = bytes.toString('utf8', field.from, field.to);
  }
  Object.freeze(properties);
  // Messages with ids of their own have nothing to share.
  if (properties.messageId === undefined) chunk.systemProperties.set(at, properties);
  return properties;
}
