// The bytes of an AMQP connection as frames, with the type of every value: what one client says can be held beside what another says.

import { createRequire } from 'node:module';

/** A value with its type where it is no container: `string m-1`, `uint 5`; an object for a list with known fields, or a map. */
export type Shape = string | null | readonly Shape[] | { readonly [field: string]: Shape };
type Fields = Readonly<Record<string, Shape>>;

export interface Frame {
  readonly channel: number;
  readonly name: string;
  readonly fields: Fields;
  /** Sections of the message of a transfer, by their names. */
  readonly sections: Fields;
}

interface Typed {
  readonly type: { readonly name: string };
  readonly value: unknown;
  readonly descriptor?: { readonly value: unknown };
}

interface Reader {
  read(): Typed;
  remaining(): number;
}

/** The library's own, which it does not give out. */
const { Reader: TypedReader } = createRequire(import.meta.url)('rhea/lib/types.js') as {
  readonly Reader: new (bytes: Buffer) => Reader;
};

/** AMQP 1.0, parts 2.7, 2.8, 3.2, 3.4 and 3.5: names and fields by the codes of the descriptors. */
const COMPOSITES: Readonly<Record<number, readonly [name: string, ...fields: string[]]>> = {
  0x10: ['open', 'container-id', 'hostname', 'max-frame-size', 'channel-max', 'idle-time-out', 'outgoing-locales',
    'incoming-locales', 'offered-capabilities', 'desired-capabilities', 'properties'],
  0x11: ['begin', 'remote-channel', 'next-outgoing-id', 'incoming-window', 'outgoing-window', 'handle-max',
    'offered-capabilities', 'desired-capabilities', 'properties'],
  0x12: ['attach', 'name', 'handle', 'role', 'snd-settle-mode', 'rcv-settle-mode', 'source', 'target', 'unsettled',
    'incomplete-unsettled', 'initial-delivery-count', 'max-message-size', 'offered-capabilities', 'desired-capabilities',
    'properties'],
  0x13: ['flow', 'next-incoming-id', 'incoming-window', 'next-outgoing-id', 'outgoing-window', 'handle', 'delivery-count',
    'link-credit', 'available', 'drain', 'echo', 'properties'],
  0x14: ['transfer', 'handle', 'delivery-id', 'delivery-tag', 'message-format', 'settled', 'more', 'rcv-settle-mode', 'state',
    'resume', 'aborted', 'batchable'],
  0x15: ['disposition', 'role', 'first', 'last', 'settled', 'state', 'batchable'],
  0x16: ['detach', 'handle', 'closed', 'error'],
  0x17: ['end', 'error'],
  0x18: ['close', 'error'],
  0x1d: ['error', 'condition', 'description', 'info'],
  0x23: ['received', 'section-number', 'section-offset'],
  0x24: ['accepted'],
  0x25: ['rejected', 'error'],
  0x26: ['released'],
  0x27: ['modified', 'delivery-failed', 'undeliverable-here', 'message-annotations'],
  0x28: ['source', 'address', 'durable', 'expiry-policy', 'timeout', 'dynamic', 'dynamic-node-properties', 'distribution-mode',
    'filter', 'default-outcome', 'outcomes', 'capabilities'],
  0x29: ['target', 'address', 'durable', 'expiry-policy', 'timeout', 'dynamic', 'dynamic-node-properties', 'capabilities'],
  0x70: ['header', 'durable', 'priority', 'ttl', 'first-acquirer', 'delivery-count'],
  0x71: ['delivery-annotations'],
  0x72: ['message-annotations'],
  0x73: ['properties', 'message-id', 'user-id', 'to', 'subject', 'reply-to', 'correlation-id', 'content-type',
    'content-encoding', 'absolute-expiry-time', 'creation-time', 'group-id', 'group-sequence', 'reply-to-group-id'],
  0x74: ['application-properties'],
  0x75: ['data'],
  0x77: ['value'],
}; // prettier-ignore

/** Names of types without their widths: how many bytes a number takes on the way is the library's affair. */
const TYPE_NAMES: Readonly<Record<string, string>> = {
  Str: 'string', Sym: 'symbol', Vbin: 'binary', True: 'boolean', False: 'boolean', Boolean: 'boolean',
  SmallUint: 'uint', Uint: 'uint', SmallUlong: 'ulong', Ulong: 'ulong', SmallInt: 'int', Int: 'int', SmallLong: 'long',
  Long: 'long', Ubyte: 'ubyte', Ushort: 'ushort', Timestamp: 'timestamp', Uuid: 'uuid', Null: 'null',
}; // prettier-ignore

/** @throws Error for a frame that is cut. */
export function framesOf(bytes: Buffer): readonly Frame[] {
  const frames: Frame[] = [];
  for (let position = 0; position < bytes.length;) {
    if (bytes.toString('latin1', position, position + 4) === 'AMQP') {
      const version = [...bytes.subarray(position + 4, position + 8)].join('.');
      frames.push({ channel: 0, name: 'protocol-header', fields: { version }, sections: {} });
      position += 8;
      continue;
    }
    const size = bytes.readUInt32BE(position);
    const frame = bytes.subarray(position, position + size);
    if (frame.length < size) throw new Error('The last frame is cut.');
    position += size;
    const body = frame.subarray(4 * (frame[4] ?? 2));
    if (body.length > 0) frames.push(frameOf(frame.readUInt16BE(6), new TypedReader(body), body));
  }
  return frames;
}

function frameOf(channel: number, reader: Reader, body: Buffer): Frame {
  const performative = reader.read();
  const [name = ''] = COMPOSITES[codeOf(performative)] ?? [];
  const payload = body.subarray(body.length - reader.remaining());
  return { channel, name, fields: shapeOf(performative) as Fields, sections: sectionsOf(payload) };
}

/** The sections of a message by their names. */
export function sectionsOf(message: Buffer): Fields {
  const sections: Record<string, Shape> = {};
  for (const reader = new TypedReader(message); reader.remaining() > 0;) {
    const section = reader.read();
    const [name = ''] = COMPOSITES[codeOf(section)] ?? [];
    const known = sections[name];
    // A batch has a section of data for each of its messages.
    if (known === undefined) sections[name] = shapeOf(section);
    else sections[name] = [...(Array.isArray(known) ? (known as Shape[]) : [known]), shapeOf(section)];
  }
  return sections;
}

function codeOf({ descriptor }: Typed): number {
  return Number(descriptor?.value ?? -1);
}

function shapeOf(typed: Typed): Shape {
  const { name } = typed.type;
  const [composite, ...fields] = COMPOSITES[codeOf(typed)] ?? [];
  if (name.startsWith('List')) {
    const values = (typed.value as Typed[]).map(shapeOf);
    if (composite === undefined) return values;
    const entries = fields.map((field, index) => [field, values[index] ?? null] as const);
    const present = Object.fromEntries(entries.filter(([, value]) => value !== null));
    return isPerformativeOrSection(typed) ? present : { [composite]: present };
  }
  if (name.startsWith('Map')) {
    const values = (typed.value as Typed[]).map(shapeOf);
    return Object.fromEntries(
      values.flatMap((key, index) => (index % 2 === 0 ? [[key as string, values[index + 1] ?? null]] : [])),
    );
  }
  if (name.startsWith('Array')) return (typed.value as Typed[]).map(shapeOf);
  return scalarOf(typed);
}

function isPerformativeOrSection(typed: Typed): boolean {
  const code = codeOf(typed);
  return code < 0x1d || code >= 0x28;
}

function scalarOf({ type, value }: Typed): Shape {
  const name = TYPE_NAMES[type.name.replace(/\d+$/, '')] ?? type.name;
  if (name === 'null') return null;
  if (name === 'boolean') return `boolean ${type.name === 'True' || value === true}`;
  if (Buffer.isBuffer(value)) return name === 'uuid' ? 'uuid' : `${name} ${value.toString('utf8')}`;
  return `${name} ${String(value)}`;
}
