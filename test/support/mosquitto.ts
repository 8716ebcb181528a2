// A real Mosquitto as the peer of a test: started, stopped, killed, paused, and started again on the same port.

import { spawn, type ChildProcess } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { run } from './command.ts';
import { freePort } from './free-port.ts';
import { createTempDir } from './temp-dir.ts';
import { waitFor } from './wait.ts';

export interface MosquittoOptions {
  /**
   * An address of the test's own in 127.0.0.0/8. Default 127.0.20.1; with WebSockets always 127.0.0.1, because
   * libwebsockets binds only to addresses that an interface names.
   */
  readonly address?: string;
  /** Default: a free one, kept over restarts. */
  readonly port?: number;
  readonly tls?: {
    readonly certificatePath: string;
    readonly keyPath: string;
    /** Authority of clients' certificates; with it a client must show one. */
    readonly clientCaPath?: string;
  };
  /** User names and passwords; without it everybody may connect. */
  readonly users?: Readonly<Record<string, string>>;
  readonly websockets?: boolean;
  readonly maxPacketBytes?: number;
  /** Keeps sessions and queued messages in a file over restarts. */
  readonly persistence?: boolean;
  /** The user that it runs as when the test is root. Default root, so that it can read the test's files. */
  readonly user?: string;
  /** Further lines of mosquitto.conf. */
  readonly lines?: readonly string[];
}

export interface Mosquitto extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
  /** `mqtt://`, `mqtts://`, `ws://` or `wss://` with address and port. */
  readonly url: string;
  /** Undefined while it does not run. */
  readonly pid: number | undefined;
  /** What it logged. */
  log(): string;
  start(): Promise<void>;
  /** SIGTERM: it says goodbye to its clients. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay, nothing answers. */
  pause(): void;
  resume(): void;
}

const LOG_CHARS = 256 * 1024;

/** Starts a broker and resolves when it accepts connections. */
export async function startMosquitto(options: MosquittoOptions = {}): Promise<Mosquitto> {
  const address = options.websockets === true ? '127.0.0.1' : (options.address ?? '127.0.20.1');
  const broker = new MosquittoProcess(options, address, options.port ?? (await freePort(address)));
  await broker.start();
  return broker;
}

class MosquittoProcess implements Mosquitto {
  readonly address: string;
  readonly port: number;
  readonly url: string;
  readonly #options: MosquittoOptions;
  readonly #directory = createTempDir('mosquitto');
  #process: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  #log = '';

  constructor(options: MosquittoOptions, address: string, port: number) {
    this.#options = options;
    this.address = address;
    this.port = port;
    const secure = options.tls === undefined ? '' : 's';
    this.url = `${options.websockets === true ? 'ws' : 'mqtt'}${secure}://${this.address}:${port}`;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  log(): string {
    return this.#log;
  }

  async start(): Promise<void> {
    if (this.#process !== undefined) return;
    const configuration = this.#directory.file('mosquitto.conf');
    writeFileSync(configuration, `${(await this.#lines()).join('\n')}\n`);
    const child = spawn('mosquitto', ['-c', configuration], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#log = (this.#log + text).slice(-LOG_CHARS);
      });
    }
    this.#ended = new Promise((resolve) => {
      const end = (): void => {
        this.#process = undefined;
        resolve();
      };
      child.on('error', (error) => {
        this.#log += `${error.message}. Is it installed? test/setup.sh does it.`;
        end();
      });
      child.on('close', end);
    });
    await waitFor(
      () => {
        if (this.#process === undefined) throw new Error(`Mosquitto did not start: ${this.#log}`);
        return accepts(this.address, this.port);
      },
      { what: `Mosquitto at ${this.address}:${this.port}` },
    );
  }

  async #lines(): Promise<string[]> {
    const { tls, users, maxPacketBytes, persistence, user = 'root' } = this.#options;
    const lines = [
      'per_listener_settings false',
      'log_dest stdout',
      'log_type all',
      'set_tcp_nodelay true',
      'max_queued_messages 0',
      'max_inflight_messages 0',
      `user ${user}`,
      `persistence ${persistence === true}`,
      `persistence_location ${this.#directory.path}/`,
      `allow_anonymous ${users === undefined}`,
    ];
    if (maxPacketBytes !== undefined) lines.push(`max_packet_size ${maxPacketBytes}`);
    if (users !== undefined) {
      const file = this.#directory.file('passwords');
      writeFileSync(file, '');
      for (const [name, password] of Object.entries(users)) {
        await run('mosquitto_passwd', ['-b', file, name, password]);
      }
      lines.push(`password_file ${file}`);
    }
    lines.push(`listener ${this.port} ${this.address}`);
    if (this.#options.websockets === true) {
      lines.push('protocol websockets', 'socket_domain ipv4');
    }
    if (tls !== undefined) {
      lines.push(`certfile ${tls.certificatePath}`, `keyfile ${tls.keyPath}`);
      if (tls.clientCaPath !== undefined) lines.push(`cafile ${tls.clientCaPath}`, 'require_certificate true');
    }
    // Mosquitto 2.0.11 does not start with listeners for WebSockets alone.
    if (this.#options.websockets === true) lines.push(`listener 0 ${this.#directory.file('plain.sock')}`);
    return [...lines, ...(this.#options.lines ?? [])];
  }

  async stop(): Promise<void> {
    this.resume();
    this.#process?.kill('SIGTERM');
    await this.#ended;
  }

  async kill(): Promise<void> {
    this.#process?.kill('SIGKILL');
    await this.#ended;
  }

  pause(): void {
    this.#process?.kill('SIGSTOP');
  }

  resume(): void {
    this.#process?.kill('SIGCONT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    this.#directory.remove();
  }
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
