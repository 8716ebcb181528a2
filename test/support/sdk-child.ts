// The published SDKs, unmodified, in child processes: they find the hub by its name through a hosts file of their own (a mount
// namespace, which needs root), and trust its authority through NODE_EXTRA_CA_CERTS. A child answers calls by name.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startChild, type Child } from './child.ts';
import { HUB_HOST_NAME } from './hub-daemon.ts';
import { createTempDir } from './temp-dir.ts';
import { waitFor } from './wait.ts';

const SDK = join(import.meta.dirname, '..', 'sdk');

/** An error as the SDK gave it to the application. */
export class SdkError extends Error {
  readonly statusCode: number | undefined;

  constructor(name: string, message: string, statusCode?: number) {
    super(message);
    this.name = name;
    this.statusCode = statusCode;
  }
}

/** What an SDK told its application: a command, a change of the connection, … */
export interface SdkEvent {
  readonly event: string;
  readonly data: unknown;
}

export interface SdkChild extends AsyncDisposable {
  readonly pid: number;
  /** Calls a function of the child. Rejects with SdkError. */
  call(name: string, ...args: readonly unknown[]): Promise<unknown>;
  /** All events so far, the oldest first. */
  readonly events: readonly SdkEvent[];
  /** Waits for the data of an event, from the `skip`th of that name on, that `accepts` takes. */
  nextEvent<T = unknown>(name: string, accepts?: (data: T) => boolean, timeoutMs?: number): Promise<T>;
  kill(signal?: NodeJS.Signals): Promise<unknown>;
  errorOutput(): string;
}

type Report =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: { name: string; message: string; statusCode?: number } }
  | SdkEvent;

export interface SdkChildOptions {
  /** Where the hub's name leads. */
  readonly hub: { readonly address: string; readonly authorityPath: string };
  readonly env?: Readonly<Record<string, string>>;
}

/** A device or module client: `test/sdk/device-child.ts`. */
export function startDevice(options: SdkChildOptions): SdkChild {
  return startSdkChild('device-child.ts', options);
}

/** Registry, twins, methods, commands, feedback and events: `test/sdk/back-end-child.ts`. */
export function startBackEnd(options: SdkChildOptions): SdkChild {
  return startSdkChild('back-end-child.ts', options);
}

function startSdkChild(script: string, { hub, env }: SdkChildOptions): SdkChild {
  const directory = createTempDir('sdk');
  const hosts = directory.file('hosts');
  writeFileSync(hosts, `127.0.0.1 localhost\n${hub.address} ${HUB_HOST_NAME}\n`);
  const events: SdkEvent[] = [];
  const taken = new Set<SdkEvent>();
  const waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  let calls = 0;
  const child: Child = startChild(join(SDK, script), {
    through: ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', hosts],
    env: { NODE_EXTRA_CA_CERTS: hub.authorityPath, ...env },
    execArgv: ['--disable-warning=DEP0123'],
    onReport(report) {
      const told = report as Report;
      if ('event' in told) {
        events.push(told);
        return;
      }
      const call = waiting.get(told.id);
      waiting.delete(told.id);
      if ('error' in told) {
        const { name, message, statusCode } = told.error;
        call?.reject(new SdkError(name, message, statusCode));
      } else call?.resolve(told.result);
    },
  });
  void child.exited.then(() => {
    directory.remove();
    for (const { reject } of waiting.values()) reject(new Error(`The SDK's process ended. ${child.errorOutput()}`));
    waiting.clear();
  });
  return {
    pid: child.pid,
    call(name, ...args) {
      if (!child.running) return Promise.reject(new Error(`The SDK's process ended. ${child.errorOutput()}`));
      calls += 1;
      const id = calls;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        child.send({ id, name, args });
      });
    },
    events,
    async nextEvent<T>(name: string, accepts: (data: T) => boolean = () => true, timeoutMs = 20_000) {
      const isWanted = (one: SdkEvent): boolean => one.event === name && !taken.has(one) && accepts(one.data as T);
      const found = await waitFor(() => events.find(isWanted), { timeoutMs, what: `"${name}" from the SDK` }).catch(
        (error: unknown) => {
          const seen = JSON.stringify(events).slice(0, 2000);
          throw new Error(`${String(error)} It told: ${seen}. ${child.errorOutput().slice(-2000)}`, { cause: error });
        },
      );
      taken.add(found);
      return found.data as T;
    },
    kill: (signal) => child.kill(signal),
    errorOutput: () => child.errorOutput(),
    async [Symbol.asyncDispose]() {
      await child.kill();
    },
  };
}
