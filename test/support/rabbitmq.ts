// A real RabbitMQ with its AMQP 1.0 plugin as the peer of a test: started, killed, paused, and started again on the same port
// with what it had stored. Everything of it is below one temporary directory and on one loopback address.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { connect } from 'node:net';
import { writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { freePort } from './free-port.ts';
import { createTempDir } from './temp-dir.ts';
import { waitFor } from './wait.ts';

/** The server itself: what stands in /usr/sbin changes the user. */
const SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server';
const CONTROL = '/usr/lib/rabbitmq/bin/rabbitmqctl';

export interface RabbitMqOptions {
  /** An address of the test's own in 127.0.0.0/8. */
  readonly address: string;
  /** Durable queues. */
  readonly queues: readonly string[];
  /** Clients with a certificate of that authority may log in by its common name (SASL EXTERNAL). */
  readonly tls?: { readonly certificatePath: string; readonly keyPath: string; readonly caPath: string };
}

export interface RabbitMq extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
  /** Of TLS; with `tls`. */
  readonly tlsPort: number;
  /** `amqps://` with address and port; with `tls`. */
  readonly secureUrl: string;
  /** `amqp://` with address and port. */
  readonly url: string;
  log(): string;
  start(): Promise<void>;
  /** SIGTERM: it says goodbye to its clients. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay, nothing answers. */
  pause(): void;
  resume(): void;
  /** Runs `rabbitmqctl` on it. */
  control(...args: readonly string[]): Promise<void>;
}

export const RABBITMQ_USER = { username: 'plant-7', password: 'pä55 word' } as const;
/** `rhea` writes no other letters than those of ASCII. */
export const RABBITMQ_WITNESS = { username: 'witness', password: 'witness' } as const;

const LOG_CHARS = 256 * 1024;

export async function startRabbitMq(options: RabbitMqOptions): Promise<RabbitMq> {
  const { address, tls } = options;
  const directory = createTempDir('rabbitmq');
  const [port, tlsPort, distPort, epmdPort] = [
    await freePort(address),
    await freePort(address),
    await freePort('127.0.0.1'),
    await freePort('127.0.0.1'),
  ];
  const users = [RABBITMQ_USER, RABBITMQ_WITNESS];
  writeFileSync(directory.file('enabled_plugins'), '[rabbitmq_amqp1_0,rabbitmq_auth_mechanism_ssl].\n');
  writeFileSync(
    directory.file('definitions.json'),
    JSON.stringify({
      vhosts: [{ name: '/' }],
      users: users.map(({ username, password }) => ({ name: username, password, tags: '' })),
      permissions: users.map(({ username }) => {
        return { user: username, vhost: '/', configure: '^$', write: '.*', read: '.*' };
      }),
      queues: options.queues.map((name) => ({ name, vhost: '/', durable: true, auto_delete: false, arguments: {} })),
      exchanges: [],
      bindings: [],
    }),
  );
  const lines = [
    `listeners.tcp.1 = ${address}:${port}`,
    'loopback_users = none',
    `load_definitions = ${directory.file('definitions.json')}`,
    'log.console = true',
    'log.console.level = info',
    'log.file = false',
    'vm_memory_high_watermark.absolute = 1GB',
    'disk_free_limit.absolute = 1MB',
    'amqp1_0.default_user = none',
  ];
  if (tls !== undefined) {
    lines.push(
      `listeners.ssl.1 = ${address}:${tlsPort}`,
      `ssl_options.cacertfile = ${tls.caPath}`,
      `ssl_options.certfile = ${tls.certificatePath}`,
      `ssl_options.keyfile = ${tls.keyPath}`,
      'ssl_options.verify = verify_peer',
      'ssl_options.fail_if_no_peer_cert = false',
      'ssl_cert_login_from = common_name',
      'auth_mechanisms.1 = PLAIN',
      'auth_mechanisms.2 = EXTERNAL',
    );
  }
  writeFileSync(directory.file('rabbitmq.conf'), `${lines.join('\n')}\n`);
  // The name service of Erlang would stay behind as a daemon; run here it ends with the test.
  const names = spawn('epmd', ['-port', String(epmdPort), '-address', '127.0.0.1'], { stdio: 'ignore' });
  const environment = {
    ...process.env,
    HOME: directory.path,
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    // The start script becomes the virtual machine then, so that signals reach that.
    RUNNING_UNDER_SYSTEMD: '1',
    RABBITMQ_NODENAME: `test-${port}@localhost`,
    RABBITMQ_DIST_PORT: String(distPort),
    RABBITMQ_CONFIG_FILE: directory.file('rabbitmq.conf'),
    RABBITMQ_ENABLED_PLUGINS_FILE: directory.file('enabled_plugins'),
    RABBITMQ_MNESIA_BASE: directory.file('mnesia'),
    RABBITMQ_LOG_BASE: directory.file('log'),
    RABBITMQ_PID_FILE: directory.file('pid'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1} +S 1 +sbwt none',
  };
  let child: ChildProcess | undefined;
  let ended: Promise<void> = Promise.resolve();
  let text = '';

  async function start(): Promise<void> {
    if (child !== undefined) return;
    const started = spawn(SERVER, [], { stdio: ['ignore', 'pipe', 'pipe'], env: environment });
    child = started;
    for (const stream of [started.stdout, started.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        text = (text + chunk).slice(-LOG_CHARS);
      });
    }
    ended = new Promise((resolve) => {
      const end = (): void => {
        child = undefined;
        resolve();
      };
      started.on('error', (error) => {
        text += `${error.message}. Is it installed? test/setup.sh does it.`;
        end();
      });
      started.on('close', end);
    });
    await waitFor(
      () => {
        if (child === undefined) throw new Error(`RabbitMQ did not start: ${text}`);
        return accepts(address, port);
      },
      { timeoutMs: 60_000, everyMs: 100, what: `RabbitMQ at ${address}:${port}` },
    );
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    child?.kill('SIGCONT');
    child?.kill(signal);
    await ended;
  }

  await start();
  return {
    address,
    port,
    tlsPort,
    secureUrl: `amqps://${address}:${tlsPort}`,
    url: `amqp://${address}:${port}`,
    log: () => text,
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    pause: () => void child?.kill('SIGSTOP'),
    resume: () => void child?.kill('SIGCONT'),
    control: async (...args) => void (await promisify(execFile)(CONTROL, args, { env: environment })),
    [Symbol.asyncDispose]: async () => {
      await end('SIGKILL');
      names.kill('SIGKILL');
      directory.remove();
    },
  };
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
