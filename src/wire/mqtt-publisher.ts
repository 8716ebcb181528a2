// QoS 1 publishes of one MQTT connection, beside the library: it makes a dozen objects and callbacks for each message, which
// at ten thousand messages a second is most of what delivery costs. Packets are written into one buffer, which leaves once
// a turn of the event loop; answers are found by packet identifier.
//
// Invariants
// - `done` of a publish is called once: by its PUBACK, or by `end`.
// - A packet identifier that is unanswered is not used again (MQTT 3.1.1, 2.3.1-4).

import type { MqttPublishProperties } from './mqtt-messages.ts';

/** PUBLISH with QoS 1 (MQTT 3.1.1, 3.3.1). */
const PUBLISH_QOS_1 = 0x32;
/** Identifiers above it are the library's, for subscriptions. */
const LAST_ID = 0xfeff;
const GATHER_BYTES = 64 * 1024;

/** Identifiers of properties (MQTT 5.0, 2.2.2.2). */
const PROPERTY = { payloadFormat: 0x01, contentType: 0x03, responseTopic: 0x08, correlationData: 0x09, user: 0x26 };

/** Identifiers in use at first: the table doubles when half of them are unanswered. */
const FIRST_IDS = 256;
/** A buffer beyond this is not kept for the next packets: one large message had it grow. */
const KEPT_BYTES = 4 * GATHER_BYTES;

/** `tag` is what the publish was called with. */
type Done = (reasonCode: number | undefined, tag: number) => void;

/** Packet identifiers for the library, apart from those of publishes (its `messageIdProvider`). */
export class SubscriptionIds {
  #last = LAST_ID;

  allocate(): number {
    this.#last = this.#last >= 0xffff ? LAST_ID + 1 : this.#last + 1;
    return this.#last;
  }

  getLastAllocated(): number {
    return this.#last;
  }

  register(): boolean {
    return true;
  }

  deallocate(): void {}

  clear(): void {}
}

export class MqttPublisher {
  readonly #write: (bytes: Buffer, written: () => void) => void;
  readonly #isVersion5: boolean;
  /** By identifier: who waits for its answer. Flat, because thousands live longer than a collection of the young. */
  readonly #dones: (Done | undefined)[] = [undefined];
  readonly #tags: number[] = [0];
  #unanswered = 0;
  #mostIds = FIRST_IDS;
  #lastId = 0;
  #buffer: Buffer = Buffer.allocUnsafeSlow(4096);
  /** Written and out of use: the next one. */
  #spare: Buffer | undefined;
  #length = 0;
  #scheduled = false;
  #ended = false;

  /** The bytes given to `write` stay as they are until it calls `written`. */
  constructor(protocolVersion: 4 | 5, write: (bytes: Buffer, written: () => void) => void) {
    this.#isVersion5 = protocolVersion === 5;
    this.#write = write;
  }

  /** @see MqttConnection.publish */
  publish(
    topic: string,
    payload: Uint8Array,
    properties: MqttPublishProperties | undefined,
    done: Done,
    tag = 0,
  ): void {
    if (this.#ended || this.#unanswered >= LAST_ID) {
      done(undefined, tag);
      return;
    }
    const id = this.#nextId();
    this.#dones[id] = done;
    this.#tags[id] = tag;
    this.#unanswered += 1;
    this.#encode(topic, payload, properties, id);
    if (this.#length >= GATHER_BYTES) this.flush();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      process.nextTick(() => {
        this.#scheduled = false;
        this.flush();
      });
    }
  }

  /** Those of the library, and those that the server made up, belong to nothing here. */
  answered(id: number, reasonCode: number): void {
    const done = this.#dones[id];
    if (done === undefined) return;
    this.#dones[id] = undefined;
    this.#unanswered -= 1;
    done(reasonCode, this.#tags[id] as number);
  }

  /** Writes what waits. */
  flush(): void {
    if (this.#length === 0 || this.#ended) return;
    const buffer = this.#buffer;
    const bytes = buffer.subarray(0, this.#length);
    this.#buffer = this.#spare ?? Buffer.allocUnsafeSlow(4096);
    this.#spare = undefined;
    this.#length = 0;
    this.#write(bytes, () => {
      if (!this.#ended && buffer.length <= KEPT_BYTES) this.#spare = buffer;
    });
  }

  /** The connection is gone. */
  end(): void {
    this.#ended = true;
    this.#buffer = Buffer.alloc(0);
    this.#spare = undefined;
    const dones = this.#dones.splice(0);
    dones.forEach((done, id) => done?.(undefined, this.#tags[id] as number));
  }

  #nextId(): number {
    if (this.#unanswered >= this.#mostIds / 2) this.#mostIds = Math.min(this.#mostIds * 2, LAST_ID);
    do this.#lastId = this.#lastId >= this.#mostIds ? 1 : this.#lastId + 1;
    while (this.#dones[this.#lastId] !== undefined);
    return this.#lastId;
  }

  #encode(topic: string, payload: Uint8Array, properties: MqttPublishProperties | undefined, id: number): void {
    const topicBytes = Buffer.byteLength(topic);
    const propertyBytes = this.#isVersion5 ? bytesOf(properties) : 0;
    const remaining =
      2 + topicBytes + 2 + payload.length + (this.#isVersion5 ? varintBytes(propertyBytes) + propertyBytes : 0);
    this.#reserve(5 + remaining);
    this.#uint8(PUBLISH_QOS_1);
    this.#varint(remaining);
    this.#uint16(topicBytes);
    this.#length += this.#buffer.write(topic, this.#length);
    this.#uint16(id);
    if (this.#isVersion5) {
      this.#varint(propertyBytes);
      if (properties !== undefined) this.#properties(properties);
    }
    this.#buffer.set(payload, this.#length);
    this.#length += payload.length;
  }

  #properties(properties: MqttPublishProperties): void {
    const { payloadFormatIndicator, contentType, responseTopic, correlationData, userProperties } = properties;
    if (payloadFormatIndicator !== undefined) {
      this.#uint8(PROPERTY.payloadFormat);
      this.#uint8(payloadFormatIndicator ? 1 : 0);
    }
    if (contentType !== undefined) this.#textProperty(PROPERTY.contentType, contentType);
    if (responseTopic !== undefined) this.#textProperty(PROPERTY.responseTopic, responseTopic);
    if (correlationData !== undefined) {
      this.#uint8(PROPERTY.correlationData);
      this.#uint16(correlationData.length);
      this.#buffer.set(correlationData, this.#length);
      this.#length += correlationData.length;
    }
    for (const name in userProperties) {
      this.#textProperty(PROPERTY.user, name);
      this.#text(userProperties[name] ?? '');
    }
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, needed));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }

  #uint8(value: number): void {
    this.#buffer[this.#length] = value;
    this.#length += 1;
  }

  #uint16(value: number): void {
    this.#uint8(value >> 8);
    this.#uint8(value & 0xff);
  }

  /** MQTT 5.0, 1.5.5; the Remaining Length of 3.1.1, 2.2.3. */
  #varint(value: number): void {
    let rest = value;
    for (; rest > 0x7f; rest >>>= 7) this.#uint8((rest & 0x7f) | 0x80);
    this.#uint8(rest);
  }

  #textProperty(property: number, text: string): void {
    this.#uint8(property);
    this.#text(text);
  }

  #text(text: string): void {
    const bytes = this.#buffer.write(text, this.#length + 2);
    this.#uint16(bytes);
    this.#length += bytes;
  }
}

function bytesOf(properties: MqttPublishProperties | undefined): number {
  if (properties === undefined) return 0;
  const { payloadFormatIndicator, contentType, responseTopic, correlationData, userProperties } = properties;
  let bytes = payloadFormatIndicator === undefined ? 0 : 2;
  if (contentType !== undefined) bytes += 3 + Buffer.byteLength(contentType);
  if (responseTopic !== undefined) bytes += 3 + Buffer.byteLength(responseTopic);
  if (correlationData !== undefined) bytes += 3 + correlationData.length;
  for (const name in userProperties) {
    bytes += 5 + Buffer.byteLength(name) + Buffer.byteLength(userProperties[name] ?? '');
  }
  return bytes;
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest > 0x7f; rest >>>= 7) bytes += 1;
  return bytes;
}
