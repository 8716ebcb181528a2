// Messages of AMQP 1.0 as bytes: written here, because types matter to clients (a status must be an `int`, a version a `long`)
// and because the same event goes to many readers (OASIS AMQP 1.0, parts 1.6 and 3.2).

import { GatewayError } from '../core/errors.ts';

/** A number whose type clients depend on. A timestamp is ms since 1970. */
export interface AmqpNumber {
  readonly type: 'int' | 'long' | 'ulong' | 'ubyte' | 'timestamp';
  readonly value: number;
}

export type AmqpValue = string | boolean | AmqpNumber | Uint8Array | readonly string[] | AmqpMap;

export interface AmqpMap {
  readonly map: Readonly<Record<string, AmqpValue>>;
}

/** `string`, `ulong` as a number, `uuid` as 16 bytes; other bytes are `binary`. */
export type AmqpId = string | number | Uint8Array;

export interface AmqpProperties {
  readonly messageId?: AmqpId | undefined;
  readonly userId?: Uint8Array | undefined;
  readonly to?: string | undefined;
  readonly replyTo?: string | undefined;
  readonly correlationId?: AmqpId | undefined;
  readonly contentType?: string | undefined;
  readonly contentEncoding?: string | undefined;
  /** Wall clock in ms. */
  readonly absoluteExpiryTimeMs?: number | undefined;
  readonly creationTimeMs?: number | undefined;
}

/** What is sent. */
export interface AmqpOutgoing {
  /** Asks whoever takes it to keep it over a restart. Default: nothing is said. */
  readonly durable?: boolean;
  readonly deliveryAnnotations?: Readonly<Record<string, AmqpValue>>;
  readonly annotations?: Readonly<Record<string, AmqpValue>>;
  readonly properties?: AmqpProperties;
  readonly applicationProperties?: Readonly<Record<string, AmqpValue>>;
  /** One data section. */
  readonly data?: Uint8Array;
  /** Instead of data. */
  readonly value?: AmqpValue;
}

export const amqpInt = (value: number): AmqpNumber => ({ type: 'int', value });
export const amqpLong = (value: number): AmqpNumber => ({ type: 'long', value });
export const amqpUlong = (value: number): AmqpNumber => ({ type: 'ulong', value });
export const amqpUbyte = (value: number): AmqpNumber => ({ type: 'ubyte', value });
export const amqpTimestamp = (value: number): AmqpNumber => ({ type: 'timestamp', value });

/** Numbers of sections (part 3, 3.2). */
const SECTION = {
  header: 0x70,
  deliveryAnnotations: 0x71,
  annotations: 0x72,
  properties: 0x73,
  applicationProperties: 0x74,
  data: 0x75,
  value: 0x77,
} as const;

/** Format codes (part 1, 1.6). */
const CODE = {
  null: 0x40,
  true: 0x41,
  false: 0x42,
  ubyte: 0x50,
  smallUlong: 0x53,
  ulong: 0x80,
  int: 0x71,
  long: 0x81,
  timestamp: 0x83,
  uuid: 0x98,
  binary8: 0xa0,
  binary32: 0xb0,
  string8: 0xa1,
  string32: 0xb1,
  symbol8: 0xa3,
  symbol32: 0xb3,
  list8: 0xc0,
  list32: 0xd0,
  map32: 0xd1,
  array32: 0xf0,
} as const;

/** One message with its sections in the order of the specification. */
export function encodeAmqpMessage(message: AmqpOutgoing): Buffer {
  const writer = new Writer(256 + (message.data?.byteLength ?? 0));
  const { deliveryAnnotations, annotations, properties, applicationProperties, data, value } = message;
  if (message.durable === true) writer.durableHeader();
  if (deliveryAnnotations !== undefined) {
    writer.section(SECTION.deliveryAnnotations);
    writer.map(deliveryAnnotations, 'symbol');
  }
  if (annotations !== undefined) {
    writer.section(SECTION.annotations);
    writer.map(annotations, 'symbol');
  }
  if (properties !== undefined) {
    writer.section(SECTION.properties);
    writeProperties(writer, properties);
  }
  if (applicationProperties !== undefined) {
    writer.section(SECTION.applicationProperties);
    writer.map(applicationProperties, 'string');
  }
  if (value === undefined) {
    writer.section(SECTION.data);
    writer.binary(data ?? new Uint8Array(0));
  } else {
    writer.section(SECTION.value);
    writer.value(value);
  }
  return writer.bytes();
}

/** The body of a batch (message format 0x80013700): each message in a data section of its own. */
export function encodeAmqpBatch(messages: readonly Uint8Array[]): Buffer {
  const writer = new Writer(messages.reduce((bytes, message) => bytes + message.byteLength + 8, 0));
  for (const message of messages) {
    writer.section(SECTION.data);
    writer.binary(message);
  }
  return writer.bytes();
}

function writeProperties(writer: Writer, properties: AmqpProperties): void {
  const { absoluteExpiryTimeMs, creationTimeMs } = properties;
  writer.list(10, () => {
    writer.id(properties.messageId);
    if (properties.userId === undefined) writer.none();
    else writer.binary(properties.userId);
    writer.text(properties.to);
    // subject
    writer.none();
    writer.text(properties.replyTo);
    writer.id(properties.correlationId);
    writer.symbol(properties.contentType);
    writer.symbol(properties.contentEncoding);
    writer.time(absoluteExpiryTimeMs);
    writer.time(creationTimeMs);
  });
}

class Writer {
  #buffer: Buffer;
  #at = 0;

  constructor(bytes: number) {
    this.#buffer = Buffer.allocUnsafe(bytes);
  }

  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }

  section(number: number): void {
    this.#room(3);
    // A descriptor, which is a small ulong.
    this.#byte(0x00);
    this.#byte(CODE.smallUlong);
    this.#byte(number);
  }

  /** The header (3.2.1) with its first field alone. */
  durableHeader(): void {
    this.section(SECTION.header);
    this.#room(4);
    this.#byte(CODE.list8);
    // Size, which counts from here on, and number of fields.
    this.#byte(2);
    this.#byte(1);
    this.#byte(CODE.true);
  }

  none(): void {
    this.#room(1);
    this.#byte(CODE.null);
  }

  text(text: string | undefined): void {
    if (text === undefined) this.none();
    else this.#sized(CODE.string8, CODE.string32, text);
  }

  symbol(text: string | undefined): void {
    if (text === undefined) this.none();
    else this.#sized(CODE.symbol8, CODE.symbol32, text);
  }

  time(ms: number | undefined): void {
    if (ms === undefined) this.none();
    else this.#number({ type: 'timestamp', value: ms });
  }

  id(id: AmqpId | undefined): void {
    if (id === undefined) this.none();
    else if (typeof id === 'string') this.text(id);
    else if (typeof id === 'number') this.#number({ type: 'ulong', value: id });
    else if (id.byteLength === 16) {
      this.#room(17);
      this.#byte(CODE.uuid);
      this.#copy(id);
    } else this.binary(id);
  }

  binary(bytes: Uint8Array): void {
    this.#room(5 + bytes.byteLength);
    if (bytes.byteLength < 256) {
      this.#byte(CODE.binary8);
      this.#byte(bytes.byteLength);
    } else {
      this.#byte(CODE.binary32);
      this.#word(bytes.byteLength);
    }
    this.#copy(bytes);
  }

  value(value: AmqpValue): void {
    if (typeof value === 'string') this.text(value);
    else if (typeof value === 'boolean') {
      this.#room(1);
      this.#byte(value ? CODE.true : CODE.false);
    } else if (value instanceof Uint8Array) this.binary(value);
    else if (isTexts(value)) this.#texts(value);
    else if ('map' in value) this.map(value.map, 'string');
    else this.#number(value);
  }

  map(entries: Readonly<Record<string, AmqpValue>>, keys: 'symbol' | 'string'): void {
    this.#room(9);
    this.#byte(CODE.map32);
    const start = this.#at;
    this.#at += 8;
    let count = 0;
    for (const key in entries) {
      const value = entries[key];
      if (value === undefined) continue;
      if (keys === 'symbol') this.symbol(key);
      else this.text(key);
      this.value(value);
      count += 2;
    }
    this.#close(start, count);
  }

  list(count: number, write: () => void): void {
    this.#room(9);
    this.#byte(CODE.list32);
    const start = this.#at;
    this.#at += 8;
    write();
    this.#close(start, count);
  }

  #texts(texts: readonly string[]): void {
    this.#room(10);
    this.#byte(CODE.array32);
    const start = this.#at;
    this.#at += 8;
    this.#byte(CODE.string32);
    for (const text of texts) {
      const bytes = Buffer.from(text);
      this.#room(4 + bytes.byteLength);
      this.#word(bytes.byteLength);
      this.#copy(bytes);
    }
    this.#close(start, texts.length);
  }

  /** Size and count in front of what was written since. */
  #close(start: number, count: number): void {
    this.#buffer.writeUInt32BE(this.#at - start - 4, start);
    this.#buffer.writeUInt32BE(count, start + 4);
  }

  #number({ type, value }: AmqpNumber): void {
    this.#room(9);
    this.#byte(CODE[type]);
    if (type === 'ubyte') this.#byte(Math.min(Math.max(value, 0), 255));
    else if (type === 'int') this.#at = this.#buffer.writeInt32BE(value | 0, this.#at);
    else {
      // Numbers up to 2^53 in two halves; cheaper than a BigInt for every timestamp.
      const high = Math.floor(value / 0x1_0000_0000);
      this.#at = this.#buffer.writeInt32BE(high | 0, this.#at);
      this.#word(value - high * 0x1_0000_0000);
    }
  }

  #sized(short: number, long: number, text: string): void {
    const most = text.length * 3;
    this.#room(5 + most);
    // The length is known once it is written, and its own size before that in all but long texts.
    if (most < 256) {
      const length = this.#buffer.write(text, this.#at + 2);
      this.#byte(short);
      this.#byte(length);
      this.#at += length;
      return;
    }
    const length = Buffer.byteLength(text);
    if (length < 256) {
      this.#byte(short);
      this.#byte(length);
    } else {
      this.#byte(long);
      this.#word(length);
    }
    this.#at += this.#buffer.write(text, this.#at);
  }

  #byte(value: number): void {
    this.#buffer[this.#at] = value;
    this.#at += 1;
  }

  #word(value: number): void {
    this.#at = this.#buffer.writeUInt32BE(value, this.#at);
  }

  #copy(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.byteLength;
  }

  #room(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#buffer.byteLength) return;
    const bigger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.byteLength * 2));
    this.#buffer.copy(bigger, 0, 0, this.#at);
    this.#buffer = bigger;
  }
}

function isTexts(value: AmqpValue): value is readonly string[] {
  return Array.isArray(value);
}

/** 16 bytes of a UUID in its text form. @throws GatewayError GW_INTERNAL. */
export function uuidBytes(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('-', ''), 'hex');
  if (bytes.byteLength === 16) return bytes;
  throw new GatewayError('GW_INTERNAL', `"${text.slice(0, 64)}" is no UUID.`);
}

/** Text form of 16 bytes. */
export function uuidText(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
