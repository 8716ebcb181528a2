// The gateway with its local hub as a child process, on an address of its own with the ports that the SDKs know, under a name
// that leads there for the children of `sdk-child.ts` alone.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { TempDir } from './temp-dir.ts';
import { waitFor } from './wait.ts';

const ROOT = join(import.meta.dirname, '..', '..');

/** What clients call the hub; its first label is what some SDKs take for the name of the hub. */
export const HUB_HOST_NAME = 'hub.fieldpost.test';
export const HTTPS_PORT = 443;
export const AMQPS_PORT = 5671;
export const MQTTS_PORT = 8883;

const OWNER_KEY = Buffer.from('the key of the owner, of 32 byte').toString('base64');
const OWNER_RIGHTS = ['RegistryRead', 'RegistryWrite', 'ServiceConnect', 'DeviceConnect'];

export interface HubDaemonOptions {
  /** In 127.0.0.0/8, of this test file alone. */
  readonly address: string;
  /** Data and configuration; the same one again restarts the same hub. */
  readonly directory: TempDir;
  /** Fields of the section `hub:`. */
  readonly hub?: Readonly<Record<string, unknown>>;
  /** Policies beside `iothubowner`, as the section has them. */
  readonly policies?: Readonly<Record<string, unknown>>;
  /** Further sections of the configuration. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Runs the built daemon instead of its sources. */
  readonly built?: boolean;
  /** Ports to wait for. Default: all three. */
  readonly ports?: readonly number[];
}

export interface HubDaemon extends AsyncDisposable {
  readonly address: string;
  readonly hostName: string;
  readonly dataDirectory: string;
  readonly configPath: string;
  readonly pid: number;
  /** Path of the certificate of the hub's authority. */
  readonly authorityPath: string;
  /** PEM. */
  readonly authority: string;
  /** Connection string of a policy; only `iothubowner` has a key that is known from the start. */
  readonly owner: string;
  readonly ownerKey: string;
  /** Connection string of the built-in events. */
  readonly events: string;
  /** Standard output and error so far. */
  log(): string;
  readonly exited: Promise<number | NodeJS.Signals>;
  kill(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/** Starts it and waits until its ports are open. `await using` kills it. */
export async function startHubDaemon(options: HubDaemonOptions): Promise<HubDaemon> {
  const { address, directory } = options;
  const dataDirectory = directory.file('data');
  const configPath = directory.file('fieldpost.yaml');
  const owner = { rights: OWNER_RIGHTS, primary_key: OWNER_KEY };
  const policies = { iothubowner: owner, ...options.policies };
  const hub = { enabled: true, address, host_name: HUB_HOST_NAME, policies, ...options.hub };
  const config = { outbox: { min_free_bytes: 0 }, web: { enabled: false }, ...options.config, hub };
  writeFileSync(configPath, stringify(config));
  const program = join(ROOT, ...(options.built === true ? ['dist', 'main.mjs'] : ['src', 'main.ts']));
  const child = spawn(process.execPath, [program, 'run', '--data', dataDirectory, '--config', configPath], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
  let ended: number | NodeJS.Signals | undefined;
  const exited = new Promise<number | NodeJS.Signals>((resolve) => {
    child.on('close', (code, signal) => resolve((ended = code ?? signal ?? 'SIGKILL')));
  });
  const kill = (signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals> => {
    if (ended === undefined) child.kill(signal);
    return exited;
  };
  const authorityPath = join(dataDirectory, 'pki', 'ca.pem');
  try {
    await waitFor(() => existsSync(authorityPath), { timeoutMs: 40_000, everyMs: 50, what: "the hub's authority" });
    for (const port of options.ports ?? [HTTPS_PORT, AMQPS_PORT, MQTTS_PORT]) {
      const isOpen = (): Promise<boolean> => {
        if (ended !== undefined) throw new Error(`The daemon ended with ${ended}.`);
        return canConnect(address, port);
      };
      await waitFor(isOpen, { timeoutMs: 40_000, everyMs: 50, what: `port ${port} of the hub` });
    }
  } catch (error) {
    await kill('SIGKILL');
    throw new Error(`${String(error)}\n${log}`, { cause: error });
  }
  const key = `SharedAccessKeyName=iothubowner;SharedAccessKey=${OWNER_KEY}`;
  return {
    address,
    hostName: HUB_HOST_NAME,
    dataDirectory,
    configPath,
    pid: child.pid ?? 0,
    authorityPath,
    authority: readFileSync(authorityPath, 'utf8'),
    owner: `HostName=${HUB_HOST_NAME};${key}`,
    ownerKey: OWNER_KEY,
    events: `Endpoint=sb://${HUB_HOST_NAME}/;${key};EntityPath=hub`,
    log: () => log,
    exited,
    kill,
    [Symbol.asyncDispose]: async () => {
      await kill('SIGKILL');
    },
  };
}

/** Connection string of a device, or of a module of it. */
export function deviceConnectionString(deviceId: string, key: string, moduleId?: string): string {
  const module = moduleId === undefined ? '' : `;ModuleId=${moduleId}`;
  return `HostName=${HUB_HOST_NAME};DeviceId=${deviceId}${module};SharedAccessKey=${key}`;
}

function canConnect(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const finish = (isOpen: boolean): void => {
      socket.destroy();
      resolve(isOpen);
    };
    socket.on('connect', () => finish(true));
    socket.on('error', () => finish(false));
  });
}
