// Encodes chunks: chunk-format.ts has the format.

import { identityText } from '../core/body.ts';
import { crc32 } from 'node:zlib';
import type { DeviceId } from '../core/device.ts';
import type { HubStamps, Message, SystemProperties } from '../core/message.ts';
import { ByteWriter } from './byte-writer.ts';
import {
  CHUNK_VERSION,
  clockCode,
  FIELD,
  HEADER_FIELD,
  HEADER_FIXED_BYTES,
  MAGIC,
  RECORD_FLAG,
  STAMP_CODES,
  SYSTEM_PROPERTY_CODES,
  toWhole,
  type Chunk,
  type ChunkHeader,
  type Stamps,
} from './chunk-format.ts';

/** What is known when a commit begins. */
export type CommitHeader = Pick<ChunkHeader, 'epoch' | 'shelfMs' | 'time'>;

/** What a message is that stood in the log before. */
export interface SentAgain {
  /** Of its `seq` and id. */
  readonly epoch: string;
  /** Ids of the only queues that take it. */
  readonly onlyQueues: readonly number[];
}

/** A device of the chunk that is being encoded. */
interface ChunkDevice {
  readonly index: number;
  lastSeq: number;
}

/** The newest record with some stamps. */
interface StampedRecord {
  readonly index: number;
  readonly hubId: string | undefined;
  readonly moduleId: string | undefined;
}

function sharedChars(one: string, other: string): number {
  const end = Math.min(one.length, other.length);
  let index = 0;
  while (index < end && one.charCodeAt(index) === other.charCodeAt(index)) index += 1;
  return index;
}

/** Encodes one chunk straight into one buffer, which it reuses for the next. */
export class ChunkEncoder {
  readonly #writer = new ByteWriter(64 * 1024);
  #header: CommitHeader | undefined;
  #monotonicUs = 0;
  #wallMs = 0;
  readonly #positions: number[] = [];
  readonly #deviceIndexes: number[] = [];
  readonly #seqs: number[] = [];
  #devices: DeviceId[] = [];
  #deviceById = new Map<DeviceId, ChunkDevice>();
  #sharedProperties: SystemProperties | undefined;
  /** Where the fields of the record stand that has them; -1 when they are none. */
  #sharedAt = -1;

  /** Of this chunk: records by their stamps, which the messages of one session share, and by each text in them. */
  readonly #stamped = new Map<HubStamps, StampedRecord>();
  readonly #stampTexts = STAMP_CODES.map(() => new Map<string, number>());

  get count(): number {
    return this.#positions.length;
  }

  start(header: CommitHeader): void {
    const writer = this.#writer;
    this.#header = header;
    this.#monotonicUs = toWhole(header.time.monotonicMs * 1000);
    this.#wallMs = toWhole(header.time.wallMs);
    this.#positions.length = 0;
    this.#deviceIndexes.length = 0;
    this.#seqs.length = 0;
    this.#devices = [];
    this.#deviceById = new Map();
    this.#sharedProperties = undefined;
    if (this.#stamped.size > 0) {
      this.#stamped.clear();
      for (const texts of this.#stampTexts) texts.clear();
    }
    writer.reset(HEADER_FIXED_BYTES);
    writer.textField(HEADER_FIELD.epoch, header.epoch);
    writer.textField(HEADER_FIELD.bootId, header.time.bootId);
    writer.setUint16(10, writer.length);
  }

  /** Adds a message with its `seq`. */
  add(message: Message, seq: number, again?: SentAgain): void {
    const writer = this.#writer;
    const start = writer.reserve(1);
    this.#positions.push(start);
    this.#seqs.push(seq);
    let flags = clockCode(message.time.clock) | this.#device(message.deviceId, seq) | this.#time(message);
    const { body, stamps } = message;
    const identity =
      stamps?.identityAt === undefined
        ? ''
        : identityText(message.systemProperties.contentType, this.#header?.epoch ?? '', seq);
    if (stamps?.timeAt !== undefined) {
      flags |= RECORD_FLAG.timeAt;
      writer.varint(stamps.timeAt >= (stamps.identityAt ?? Infinity) ? stamps.timeAt + identity.length : stamps.timeAt);
    }
    flags |= this.#fields(message, again);
    writer.varint(body.length + identity.length);
    if (stamps?.identityAt === undefined) writer.bytes(body);
    else {
      writer.bytes(body.subarray(0, stamps.identityAt));
      writer.ascii(identity);
      writer.bytes(body.subarray(stamps.identityAt));
    }
    writer.setUint8(start, flags);
  }

  #device(deviceId: DeviceId, seq: number): number {
    const writer = this.#writer;
    const known = this.#deviceById.get(deviceId);
    if (known === undefined) {
      const index = this.#devices.length;
      const shared = sharedChars(deviceId, this.#devices.at(-1) ?? '');
      this.#devices.push(deviceId);
      this.#deviceById.set(deviceId, { index, lastSeq: seq });
      this.#deviceIndexes.push(index);
      writer.varint(shared);
      writer.text(deviceId.slice(shared));
      writer.varint(seq);
      return RECORD_FLAG.newDevice;
    }
    this.#deviceIndexes.push(known.index);
    writer.varint(known.index);
    const follows = seq === known.lastSeq + 1;
    known.lastSeq = seq;
    if (follows) return 0;
    writer.varint(seq);
    return RECORD_FLAG.seq;
  }

  #time({ time }: Message): number {
    const writer = this.#writer;
    const sinceUs = toWhole(time.monotonicMs * 1000) - this.#monotonicUs;
    writer.signedVarint(sinceUs);
    const rest = toWhole(time.wallMs) - this.#wallMs - Math.round(sinceUs / 1000);
    if (rest === 0) return 0;
    writer.signedVarint(rest);
    return RECORD_FLAG.wall;
  }

  #fields(message: Message, again: SentAgain | undefined): number {
    const writer = this.#writer;
    const { properties, systemProperties, hubId, moduleId, time } = message;
    let flags = 0;
    // Polls share one object: the bytes stand in the chunk once, for the first of them.
    const isShared = systemProperties === this.#sharedProperties;
    if (isShared && this.#sharedAt >= 0) {
      flags |= RECORD_FLAG.sameSystemProperties;
      writer.varint(this.#sharedAt - (this.#positions[0] as number));
    }
    const at = writer.reserve(1);
    if (!isShared) {
      this.#sharedProperties = systemProperties;
      this.#sharedAt = this.#systemProperties(systemProperties) ? at : -1;
    }
    if (time.bootId !== this.#header?.time.bootId) writer.textField(FIELD.bootId, time.bootId);
    if (message.hub !== undefined) this.#stamps(message, message.hub);
    else {
      if (hubId !== undefined) writer.textField(FIELD.hubId, hubId);
      if (moduleId !== undefined) writer.textField(FIELD.moduleId, moduleId);
    }
    for (const name in properties) {
      writer.textField(FIELD.propertyName, name);
      writer.textField(FIELD.propertyValue, properties[name] as string);
    }
    if (again !== undefined) {
      writer.uint8(FIELD.onlyQueues);
      writer.varint(again.onlyQueues.length * 2);
      for (const id of again.onlyQueues) writer.setUint16(writer.reserve(2), id);
      writer.textField(FIELD.againOfEpoch, again.epoch);
    }
    return writer.endMeasured(at) > 0 ? flags | RECORD_FLAG.fields : flags;
  }

  #stamps({ hubId, moduleId }: Message, hub: HubStamps): void {
    const writer = this.#writer;
    const index = this.#positions.length - 1;
    const known = this.#stamped.get(hub);
    if (known !== undefined && known.hubId === hubId && known.moduleId === moduleId) {
      this.#number(FIELD.sameStamps, known.index);
      return;
    }
    this.#stamped.set(hub, { index, hubId, moduleId });
    writer.uint8(FIELD.stamps);
    const at = writer.reserve(1);
    const texts: Stamps = {
      ...hub,
      ...(hubId === undefined ? {} : { hubId }),
      ...(moduleId === undefined ? {} : { moduleId }),
    };
    STAMP_CODES.forEach((code, number) => {
      const text = texts[code];
      if (text === undefined) return;
      const places = this.#stampTexts[number];
      const place = places?.get(text);
      if (place !== undefined) this.#number(2 * number + 1, place);
      else {
        places?.set(text, index);
        writer.textField(2 * number, text);
      }
    });
    // Stamps are never all empty: the field is there even when nothing is in it.
    writer.endMeasured(at);
  }

  #number(tag: number, value: number): void {
    const writer = this.#writer;
    writer.uint8(tag);
    const at = writer.reserve(1);
    writer.varint(value);
    writer.endMeasured(at);
  }

  /** False when there are none. */
  #systemProperties(properties: SystemProperties): boolean {
    let some = false;
    for (let code = 0; code < SYSTEM_PROPERTY_CODES.length; code += 1) {
      const value = properties[SYSTEM_PROPERTY_CODES[code] as keyof SystemProperties];
      if (value === undefined) continue;
      some = true;
      this.#writer.textField(FIELD.systemProperty + code, value);
    }
    return some;
  }

  /** The chunk, in a buffer of its own. */
  finish(at: Pick<ChunkHeader, 'firstOffset' | 'logBytesBefore'>): Chunk {
    const writer = this.#writer;
    const { epoch, shelfMs, time } = this.#header as CommitHeader;
    const count = this.#positions.length;
    writer.setUint32(0, MAGIC);
    writer.setUint8(8, CHUNK_VERSION);
    writer.setUint8(9, clockCode(time.clock));
    writer.setUint32(12, count);
    writer.setFloat64(16, at.firstOffset);
    writer.setFloat64(24, at.logBytesBefore);
    writer.setFloat64(32, shelfMs);
    writer.setFloat64(40, time.wallMs);
    writer.setFloat64(48, time.monotonicMs);
    writer.setUint32(4, crc32(writer.view().subarray(8)));
    const bytes = writer.copy();
    const positions = new Uint32Array(count + 1);
    positions.set(this.#positions);
    positions[count] = bytes.length;
    // Written out: what is spread into an object stands in a second one beside it.
    return {
      firstOffset: at.firstOffset,
      logBytesBefore: at.logBytesBefore,
      count,
      epoch,
      shelfMs,
      time,
      version: CHUNK_VERSION,
      bytes,
      positions,
      devices: this.#devices,
      deviceIndexes: new Uint32Array(this.#deviceIndexes),
      seqs: new Float64Array(this.#seqs),
      systemProperties: undefined,
      stamps: undefined,
      messages: [],
      idPrefixes: [],
      last: { sinceUs: 0, rest: 0, code: 0, time: undefined },
    };
  }
}
