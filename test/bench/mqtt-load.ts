// Devices and a subscriber at the byte level: made so cheap that what is measured is the broker and not its clients.

import { once } from 'node:events';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';

const CONNACK = 2;
const PUBLISH = 3;
const PUBACK = 4;
const SUBACK = 9;

export interface LoadOptions {
  readonly host: string;
  readonly port: number;
  readonly publishers: number;
  readonly bodyBytes: number;
  /** QoS 1 messages of one publisher that may be unanswered. */
  readonly window: number;
  /** Of each publisher. */
  readonly messages: number;
  /** Of all together; undefined: as fast as they are answered. */
  readonly perSecond?: number;
  /** A connected client; undefined: over TCP, without credentials. */
  readonly open?: (clientId: string) => Promise<Duplex>;
  /** Of a publisher. Default: `leaf/{clientId}/telemetry`. */
  readonly topicOf?: (clientId: string) => string;
  /** Times from a message to its PUBACK are put here, in ms. */
  readonly latenciesMs?: number[];
}

export interface Load {
  /** `performance.now()` of the first publish. */
  readonly startedMs: number;
  /** Resolves with `performance.now()` of the last acknowledgement. */
  readonly acknowledged: Promise<number>;
  close(): void;
}

/** Connects the publishers `device-0` and on, which publish to `leaf/device-N/telemetry`. */
export async function startLoad(options: LoadOptions): Promise<Load> {
  const sockets = await Promise.all(
    Array.from({ length: options.publishers }, (_, index) => {
      const clientId = `device-${index}`;
      return options.open?.(clientId) ?? openClient(options, clientId);
    }),
  );
  const startedMs = performance.now();
  const ends = sockets.map((socket, index) => publishAll(socket, index, options));
  return {
    startedMs,
    acknowledged: Promise.all(ends).then(() => performance.now()),
    close: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** A connected client, its CONNACK read. */
export async function openClient(
  { host, port }: { readonly host: string; readonly port: number },
  clientId: string,
): Promise<Duplex> {
  const socket = connect({ host, port, noDelay: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  // CONNECT (MQTT 3.1.1, 3.1): clean session, no keep-alive.
  const body = Buffer.concat([text('MQTT'), Buffer.from([4, 2, 0, 0]), text(clientId)]);
  await logIn(socket, Buffer.concat([Buffer.from([0x10, body.length]), body]), clientId);
  return socket;
}

/** Sends a CONNECT and reads the CONNACK. @throws Error when it is refused. */
export async function logIn(stream: Duplex, connectPacket: Buffer, clientId: string): Promise<void> {
  stream.write(connectPacket);
  const [answer] = (await once(stream, 'data')) as [Buffer];
  if ((answer[0] ?? 0) >> 4 !== CONNACK || answer[3] !== 0) throw new Error(`${clientId} was not let in.`);
}

/** A QoS 1 PUBLISH without identifier and stamp, which are written at the places given; below 16 KB. */
export function publishPacket(
  index: number,
  bodyBytes: number,
  topicOf = (clientId: string): string => `leaf/${clientId}/telemetry`,
): { readonly packet: Buffer; readonly idAt: number; readonly bodyAt: number } {
  const topic = text(topicOf(`device-${index}`));
  const length = topic.length + 2 + bodyBytes;
  const head = Buffer.from([0x32, (length & 0x7f) | 0x80, length >> 7]);
  const body = Buffer.alloc(bodyBytes, Math.random().toString(36));
  return {
    packet: Buffer.concat([head, topic, Buffer.alloc(2), body]),
    idAt: 3 + topic.length,
    bodyAt: 5 + topic.length,
  };
}

function publishAll(socket: Duplex, index: number, options: LoadOptions): Promise<void> {
  const { messages, window, bodyBytes } = options;
  const { packet, idAt, bodyAt } = publishPacket(index, bodyBytes, options.topicOf);
  const sentMs: number[] = [];
  const intervalMs = options.perSecond === undefined ? 0 : (1000 * options.publishers) / options.perSecond;
  const bornMs = performance.now();
  let sent = 0;
  let answered = 0;
  return new Promise<void>((resolve, reject) => {
    const send = (): void => {
      const due = intervalMs === 0 ? messages : Math.ceil((performance.now() - bornMs) / intervalMs);
      const until = Math.min(messages, answered + window, due);
      if (sent >= until) return;
      const batch: Buffer[] = [];
      for (; sent < until; sent += 1) {
        const copy = Buffer.from(packet);
        copy.writeUInt16BE((sent % 65_535) + 1, idAt);
        copy.writeUInt32BE(index, bodyAt);
        copy.writeUInt32BE(sent, bodyAt + 4);
        copy.writeDoubleBE(performance.now(), bodyAt + 8);
        if (options.latenciesMs !== undefined) sentMs.push(performance.now());
        batch.push(copy);
      }
      socket.write(Buffer.concat(batch));
    };
    const timer = intervalMs === 0 ? undefined : setInterval(send, 2);
    const end = (error?: Error): void => {
      clearInterval(timer);
      if (error === undefined) resolve();
      else reject(error);
    };
    // Only PUBACKs of four bytes come.
    let bytes = 0;
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      const before = answered;
      answered = Math.floor(bytes / 4);
      const nowMs = performance.now();
      for (let n = before; n < answered; n += 1) options.latenciesMs?.push(nowMs - (sentMs[n] ?? nowMs));
      if (answered === messages) end();
      else send();
    });
    socket.once('close', () =>
      end(new Error(`The broker closed the connection of device-${index} after ${answered}.`)),
    );
    send();
  });
}

export interface Received {
  /** Different messages. */
  readonly count: () => number;
  /** End to end, in ms, of each first arrival. */
  readonly latenciesMs: number[];
  /** `performance.now()` of the newest first arrival. */
  readonly lastMs: () => number;
  close(): void;
}

/** Subscribes with QoS 1 and acknowledges; a message that comes twice counts once. */
export async function startReceiver(host: string, port: number, messagesEach: number): Promise<Received> {
  const socket = await openClient({ host, port }, 'receiver');
  const seen = new Set<number>();
  const latenciesMs: number[] = [];
  let lastMs = 0;
  let rest: Buffer = Buffer.alloc(0);
  let subscribed: () => void = () => {};
  const ready = new Promise<void>((resolve) => (subscribed = resolve));
  socket.on('data', (chunk: Buffer) => {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const answers: Buffer[] = [];
    let at = 0;
    for (;;) {
      const frame = frameAt(bytes, at);
      if (frame === undefined) break;
      if (frame.type === SUBACK) subscribed();
      if (frame.type === PUBLISH) {
        const idAt = frame.start + 2 + bytes.readUInt16BE(frame.start);
        const bodyAt = idAt + 2;
        answers.push(Buffer.from([PUBACK << 4, 2, bytes[idAt] ?? 0, bytes[idAt + 1] ?? 0]));
        const key = bytes.readUInt32BE(bodyAt) * messagesEach + bytes.readUInt32BE(bodyAt + 4);
        if (!seen.has(key)) {
          seen.add(key);
          lastMs = performance.now();
          latenciesMs.push(lastMs - bytes.readDoubleBE(bodyAt + 8));
        }
      }
      at = frame.end;
    }
    rest = bytes.subarray(at);
    if (answers.length > 0) socket.write(Buffer.concat(answers));
  });
  const filter = text('#');
  socket.write(Buffer.concat([Buffer.from([0x82, 2 + filter.length + 1, 0, 1]), filter, Buffer.from([1])]));
  await ready;
  return { count: () => seen.size, latenciesMs, lastMs: () => lastMs, close: () => socket.destroy() };
}

function frameAt(
  bytes: Buffer,
  at: number,
): { readonly type: number; readonly start: number; readonly end: number } | undefined {
  let length = 0;
  for (let index = 0; index < 4; index += 1) {
    const byte = bytes[at + 1 + index];
    if (byte === undefined) return undefined;
    length += (byte & 0x7f) * 128 ** index;
    if (byte >= 0x80) continue;
    const start = at + 2 + index;
    const end = start + length;
    return end > bytes.length ? undefined : { type: (bytes[at] ?? 0) >> 4, start, end };
  }
  throw new Error('A malformed packet came in.');
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}
