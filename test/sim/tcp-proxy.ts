// A TCP proxy that misbehaves on request, while it runs: it delays, slows down, cuts, swallows and corrupts.

import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';

/** Towards the server (`up`) or towards the client (`down`). */
export type Direction = 'up' | 'down';

export interface TcpProxyOptions {
  readonly target: { readonly host: string; readonly port: number };
  /** Where it listens. Default 127.0.20.2. */
  readonly address?: string;
  /** Default: one that the system chooses. */
  readonly port?: number;
}

export interface TcpProxy extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
  /** Connections open now. */
  readonly connections: number;
  readonly acceptedTotal: number;
  /** Bytes that came in, whether they went on or not. */
  readonly receivedBytes: Readonly<Record<Direction, number>>;
  /** Every byte arrives this much later; 0 ends it. */
  delay(delayMs: number): void;
  /** At most this many bytes a second in each direction; 0: as fast as it goes. */
  throttle(bytesPerSecond: number): void;
  /** Half-open: connections stay and are accepted, but not a byte goes on. What comes meanwhile is lost when `pass` ends it. */
  blackHole(direction?: Direction): void;
  /** Ends `blackHole` and `corrupt`. */
  pass(): void;
  /** Inverts the bits of every `everyBytes`-th byte in one direction. */
  corrupt(direction: Direction, everyBytes: number): void;
  /** Resets (RST) all connections; new ones are accepted. */
  cut(): void;
  /** Ends all connections in order (FIN), as a peer that stops; new ones are accepted. */
  hangUp(): void;
  /** Resets all as soon as this many more bytes have gone in that direction: in the middle of whatever it is. */
  cutAfter(direction: Direction, bytes: number): void;
  /** Resets all and refuses new connections until `listen`. */
  refuse(): Promise<void>;
  /** Accepts again, on the same port. */
  listen(): Promise<void>;
  close(): Promise<void>;
}

/** Starts the proxy and resolves when it accepts. */
export async function startTcpProxy(options: TcpProxyOptions): Promise<TcpProxy> {
  const proxy = new MisbehavingProxy(options);
  await proxy.listen();
  return proxy;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}

class MisbehavingProxy implements TcpProxy {
  readonly address: string;
  port: number;
  acceptedTotal = 0;
  readonly receivedBytes = { up: 0, down: 0 };
  readonly #target: TcpProxyOptions['target'];
  readonly #pairs = new Set<Pair>();
  readonly #swallow = { up: false, down: false };
  readonly #corruptEvery = { up: 0, down: 0 };
  readonly #cutIn: Record<Direction, number> = { up: Infinity, down: Infinity };
  #delayMs = 0;
  #bytesPerSecond = 0;
  #server: Server | undefined;

  constructor(options: TcpProxyOptions) {
    this.#target = options.target;
    this.address = options.address ?? '127.0.20.2';
    this.port = options.port ?? 0;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  delay(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  throttle(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
  }

  blackHole(direction?: Direction): void {
    if (direction !== 'down') this.#swallow.up = true;
    if (direction !== 'up') this.#swallow.down = true;
  }

  pass(): void {
    this.#swallow.up = this.#swallow.down = false;
    this.#corruptEvery.up = this.#corruptEvery.down = 0;
  }

  corrupt(direction: Direction, everyBytes: number): void {
    this.#corruptEvery[direction] = everyBytes;
  }

  cut(): void {
    for (const pair of this.#pairs) {
      pair.client.resetAndDestroy();
      pair.server.resetAndDestroy();
    }
    this.#pairs.clear();
  }

  hangUp(): void {
    for (const pair of this.#pairs) {
      pair.client.end();
      pair.server.end();
    }
  }

  cutAfter(direction: Direction, bytes: number): void {
    this.#cutIn[direction] = bytes;
  }

  async refuse(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => {
      if (server === undefined) resolve();
      else server.close(() => resolve());
    });
    this.cut();
    await closed;
  }

  listen(): Promise<void> {
    if (this.#server !== undefined) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => this.#accept(client));
      this.#server = server;
      server.on('error', reject);
      server.listen(this.port, this.address, () => {
        this.port = (server.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  close(): Promise<void> {
    return this.refuse();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.refuse();
  }

  #accept(client: Socket): void {
    this.acceptedTotal += 1;
    const server = connect({ ...this.#target, noDelay: true, allowHalfOpen: true });
    const pair: Pair = { client, server };
    this.#pairs.add(pair);
    const end = (): void => {
      // A cut keeps its promise even when one half ends first: nothing more goes through.
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end);
    for (const socket of [client, server]) socket.on('close', end);
    this.#forward(client, server, 'up');
    this.#forward(server, client, 'down');
  }

  #forward(from: Socket, to: Socket, direction: Direction): void {
    let position = 0;
    // A chain keeps the order whatever each piece waits for.
    let chain = Promise.resolve();
    from.on('data', (bytes: Buffer) => {
      this.receivedBytes[direction] += bytes.length;
      const receivedAtMs = performance.now();
      from.pause();
      chain = chain.then(async () => {
        await this.#wait(receivedAtMs + this.#delayMs - performance.now());
        if (this.#bytesPerSecond > 0) await this.#wait((bytes.length / this.#bytesPerSecond) * 1000);
        if (!this.#swallow[direction] && !to.destroyed) {
          await this.#write(to, this.#damage(bytes, position, direction), direction);
        }
        position += bytes.length;
      });
      // With a delay the reading goes on, so that a delayed line still carries many pieces at once.
      if (this.#bytesPerSecond > 0) void chain.then(() => from.resume());
      else from.resume();
    });
    from.on('end', () => {
      void chain.then(() => {
        if (!this.#swallow[direction]) to.end();
      });
    });
  }

  async #write(to: Socket, bytes: Buffer, direction: Direction): Promise<void> {
    const left = this.#cutIn[direction];
    if (bytes.length < left) {
      this.#cutIn[direction] = left - bytes.length;
      if (!to.write(bytes)) await this.#drained(to);
      return;
    }
    this.#cutIn[direction] = Infinity;
    // The part before the cut has to be on its way before the reset, which discards what is still queued.
    await new Promise<void>((resolve) => {
      to.write(bytes.subarray(0, left), () => resolve());
    });
    this.cut();
  }

  #drained(socket: Socket): Promise<void> {
    return new Promise((resolve) => {
      if (socket.destroyed) resolve();
      socket.once('drain', resolve);
      socket.once('close', resolve);
    });
  }

  #damage(bytes: Buffer, position: number, direction: Direction): Buffer {
    const every = this.#corruptEvery[direction];
    if (every === 0) return bytes;
    const damaged = Buffer.from(bytes);
    for (let index = every - 1 - (position % every); index < damaged.length; index += every) {
      damaged[index] = ~(damaged[index] ?? 0) & 0xff;
    }
    return damaged;
  }

  #wait(ms: number): Promise<void> {
    return ms <= 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
  }
}
