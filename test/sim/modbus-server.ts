// A scriptable Modbus server: over TCP, TLS or any duplex stream, in MBAP, RTU or ASCII framing, well-behaved unless told.

import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { type DeviceOptions, SimDevice } from './modbus-device.ts';
import { encodeFrame, type Frame, type Framing, takeFrames } from './modbus-framing.ts';

/** What a server may do instead of answering as it should. */
export type Misbehaviour =
  | { readonly kind: 'exception'; readonly code: number }
  | { readonly kind: 'silence' }
  | { readonly kind: 'delay'; readonly ms: number }
  /** The answer in pieces of one byte, so long apart. */
  | { readonly kind: 'dribble'; readonly gapMs: number }
  | { readonly kind: 'wrong_unit' }
  | { readonly kind: 'wrong_transaction' }
  | { readonly kind: 'wrong_function' }
  /** CRC, LRC, or protocol id of MBAP. */
  | { readonly kind: 'bad_check' }
  /** The frame ends after so many bytes. */
  | { readonly kind: 'truncated'; readonly bytes: number }
  /** So many registers more than asked for, in a sound frame. */
  | { readonly kind: 'oversized'; readonly registers: number }
  | { readonly kind: 'raw'; readonly bytes: Buffer }
  /** The answer twice. */
  | { readonly kind: 'repeat' }
  | { readonly kind: 'close' };

export interface SimRequest {
  readonly unitId: number;
  readonly functionCode: number;
  /** First address, where the function has one. */
  readonly address: number;
  /** Registers or bits, where the function has them. */
  readonly quantity: number;
  readonly pdu: Buffer;
  /** `performance.now()` at its arrival. */
  readonly atMs: number;
}

export interface ModbusServerOptions {
  readonly framing?: Framing;
  readonly host?: string;
  /** 0: any free port. */
  readonly port?: number;
  readonly tls?: TlsOptions;
  /** Time of a character on the line: answers come when the last character of request and answer would have passed. */
  readonly charMs?: number;
  /** What is kept of the newest requests. */
  readonly keepRequests?: number;
}

type Rule = (request: SimRequest) => Misbehaviour | undefined;

export class ModbusServer {
  /** The newest requests, oldest first. */
  readonly requests: SimRequest[] = [];
  readonly #options: ModbusServerOptions;
  readonly #framing: Framing;
  readonly #devices = new Map<number, SimDevice>();
  readonly #streams = new Set<Duplex>();
  /** The last answer of each unit. */
  readonly #answers = new Map<number, Promise<void>>();
  #server: Server | undefined;
  #rule: Rule = () => undefined;
  #accepts = true;

  constructor(options: ModbusServerOptions = {}) {
    this.#options = options;
    this.#framing = options.framing ?? 'mbap';
  }

  get host(): string {
    return this.#options.host ?? '127.0.0.1';
  }

  get port(): number {
    const address = this.#server?.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#streams.size;
  }

  addDevice(unitId: number, options: DeviceOptions = {}): SimDevice {
    const device = new SimDevice(options);
    this.#devices.set(unitId, device);
    return device;
  }

  /** From now on a device is silent; `addDevice` or `revive` brings it back. */
  removeDevice(unitId: number): void {
    this.#devices.delete(unitId);
  }

  revive(unitId: number, device: SimDevice): void {
    this.#devices.set(unitId, device);
  }

  /** Asked for each request; undefined: behaves. */
  behave(rule: Rule): void {
    this.#rule = rule;
  }

  /** False: connections are accepted by the system, and everything that comes is ignored. */
  setAnswering(answers: boolean): void {
    this.#accepts = answers;
  }

  async listen(): Promise<void> {
    const onSocket = (socket: Socket): void => {
      socket.setNoDelay(true);
      this.serve(socket);
    };
    const server =
      this.#options.tls === undefined ? createServer(onSocket) : createTlsServer(this.#options.tls, onSocket);
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#options.port ?? 0, this.host, () => resolve());
    });
  }

  /** Answers what comes over a stream, until it closes. */
  serve(stream: Duplex): void {
    this.#streams.add(stream);
    let received: Buffer = Buffer.alloc(0);
    stream.on('data', (bytes: Buffer) => {
      if (!this.#accepts) return;
      const { frames, rest } = takeFrames(this.#framing, Buffer.concat([received, bytes]));
      received = rest;
      for (const frame of frames) this.#onFrame(stream, frame);
    });
    stream.on('error', () => {});
    stream.on('close', () => this.#streams.delete(stream));
  }

  /** Resets all connections; new ones are welcome. */
  dropConnections(): void {
    for (const stream of this.#streams) {
      if ('resetAndDestroy' in stream) (stream as Socket).resetAndDestroy();
      else stream.destroy();
    }
  }

  async close(): Promise<void> {
    for (const stream of this.#streams) stream.destroy();
    const server = this.#server;
    if (server === undefined) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
  }

  #onFrame(stream: Duplex, frame: Frame): void {
    const request = describe(frame);
    this.requests.push(request);
    if (this.requests.length > (this.#options.keepRequests ?? 10_000)) this.requests.shift();
    const misbehaviour = this.#rule(request);
    const device = this.#devices.get(frame.unitId);
    // Nobody of that name: a serial line stays silent, a TCP gateway says so (exception 11).
    if (device === undefined && this.#framing !== 'mbap' && misbehaviour?.kind !== 'raw') return;
    const pdu = device?.answer(frame.pdu) ?? Buffer.of((frame.pdu[0] ?? 0) | 0x80, 11);
    // A broadcast is obeyed and not answered (MODBUS over Serial Line V1.02, 2.1).
    if (frame.unitId === 0 && this.#framing !== 'mbap') return;
    const charMs = this.#options.charMs ?? 0;
    const answer = (): void => {
      const send = (): Promise<void> => this.#send(stream, frame, { pdu, misbehaviour, askedMs: request.atMs });
      // On a serial line a device takes the next request when it has answered the one before.
      if (this.#framing === 'mbap') void send();
      else this.#answers.set(frame.unitId, (this.#answers.get(frame.unitId) ?? Promise.resolve()).then(send));
    };
    if (charMs === 0) return answer();
    // Address, CRC and the silence of 3.5 characters that ends the request.
    setTimeout(answer, (frame.bytes + pdu.length + 3 + 3.5) * charMs);
  }

  async #send(
    stream: Duplex,
    frame: Frame,
    { pdu, misbehaviour, askedMs }: { pdu: Buffer; misbehaviour: Misbehaviour | undefined; askedMs: number },
  ): Promise<void> {
    const write = (bytes: Buffer): void => {
      if (stream.writable) stream.write(bytes);
    };
    const encode = (changes: Partial<Frame> = {}, badCheck = false): Buffer =>
      encodeFrame(this.#framing, { ...frame, pdu, ...changes }, { badCheck });
    switch (misbehaviour?.kind) {
      case undefined:
        return write(encode());
      case 'silence':
        return undefined;
      case 'exception':
        return write(encode({ pdu: Buffer.of((frame.pdu[0] ?? 0) | 0x80, misbehaviour.code) }));
      case 'delay':
        await sleep(askedMs + misbehaviour.ms - performance.now());
        return write(encode());
      case 'dribble':
        // One after the other: timers of different lengths do not keep their order in a process that was held up.
        for (const byte of encode()) {
          write(Buffer.of(byte));
          await sleep(misbehaviour.gapMs);
        }
        return undefined;
      case 'wrong_unit':
        return write(encode({ unitId: (frame.unitId + 1) & 0xff }));
      case 'wrong_transaction':
        return write(encode({ transactionId: (frame.transactionId + 1) & 0xffff }));
      case 'wrong_function':
        return write(encode({ pdu: Buffer.concat([Buffer.of((pdu[0] ?? 0) ^ 0x07), pdu.subarray(1)]) }));
      case 'bad_check':
        return write(encode({}, true));
      case 'truncated':
        return write(encode().subarray(0, misbehaviour.bytes));
      case 'oversized':
        return write(encode({ pdu: oversized(pdu, misbehaviour.registers) }));
      case 'raw':
        return write(misbehaviour.bytes);
      case 'repeat':
        return write(Buffer.concat([encode(), encode()]));
      case 'close':
        stream.destroy();
        return undefined;
    }
  }
}

/** A server that listens. */
export async function startModbusServer(options: ModbusServerOptions = {}): Promise<ModbusServer> {
  const server = new ModbusServer(options);
  await server.listen();
  return server;
}

function describe({ unitId, pdu }: Frame): SimRequest {
  const has = (at: number): number => (pdu.length >= at + 2 ? pdu.readUInt16BE(at) : 0);
  return { unitId, functionCode: pdu[0] ?? 0, address: has(1), quantity: has(3), pdu, atMs: performance.now() };
}

function oversized(pdu: Buffer, registers: number): Buffer {
  const more = Buffer.alloc(registers * 2);
  return Buffer.concat([Buffer.of(pdu[0] ?? 0, ((pdu[1] ?? 0) + more.length) & 0xff), pdu.subarray(2), more]);
}
