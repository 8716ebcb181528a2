// Telling systemd how the service is (sd_notify(3)). Node has no datagram UNIX sockets, so the `systemd-notify` program
// sends for us; its process is another one than ours, hence `NotifyAccess=all` in the unit. Nothing here ever throws or
// delays: a gateway that cannot report is still a gateway.

import { spawn } from 'node:child_process';
import { errorText, systemCode } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';

export interface ServiceManager {
  /** Half of this is a good period to call `alive`; undefined when systemd watches nothing (sd_watchdog_enabled(3)). */
  readonly watchdogMs: number | undefined;
  /** `READY=1`: the boot is over. */
  ready(status: string): void;
  /** `STATUS=`: one line for `systemctl status`. */
  status(text: string): void;
  /** `WATCHDOG=1`, with a line of status. */
  alive(status: string): void;
  /** `EXTEND_TIMEOUT_USEC`: starting, repairing or stopping goes on for up to this long. */
  extendTimeout(ms: number): void;
  /** `STOPPING=1`. */
  stopping(status: string): void;
  /** Resolves when everything told so far was sent, or given up. */
  flush(): Promise<void>;
}

export interface ServiceManagerOptions {
  readonly log: Logger;
  /**
   * The process's environment: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID. The socket is taken out of it: a program that we
   * run, such as `timedatectl`, would speak to systemd in our name (sd_notify(3), `unset_environment`).
   */
  readonly environment: Record<string, string | undefined>;
  /** The program that sends. */
  readonly program?: string;
}

/** `systemd-notify` waits until systemd has read the message (BARRIER=1), which takes long only when systemd hangs. */
const SEND_TIMEOUT_MS = 10_000;
const MICROSECONDS_PER_MS = 1000;

export function createServiceManager(options: ServiceManagerOptions): ServiceManager {
  const { log, environment, program = 'systemd-notify' } = options;
  const socket = environment['NOTIFY_SOCKET'];
  delete environment['NOTIFY_SOCKET'];
  // Later fields replace earlier ones of the same name, so what waits is bounded by the number of names.
  let waiting = new Map<string, string>();
  let sending: Promise<void> | undefined;
  let usable = socket !== undefined && socket !== '';
  let failureTold = false;

  function send(fields: ReadonlyMap<string, string>): Promise<void> {
    const args = [...fields].map(([name, value]) => `${name}=${value}`);
    const env = { NOTIFY_SOCKET: socket, PATH: environment['PATH'] ?? '/usr/bin:/bin' };
    return new Promise((resolve) => {
      const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'], timeout: SEND_TIMEOUT_MS });
      let complaint = '';
      child.stderr.on('data', (chunk: Buffer) => {
        if (complaint.length < 1000) complaint += chunk.toString('utf8');
      });
      child.once('error', (error) => {
        failed(error);
        resolve();
      });
      child.once('close', (code, signal) => {
        if (code !== 0) failed(new Error(complaint.trim() || `it ended with ${signal ?? `code ${code}`}`));
        resolve();
      });
    });
  }

  /** Said once: systemd acts on silence itself, and a line a ping would bury everything else. */
  function failed(error: Error): void {
    const missing = systemCode(error) === 'ENOENT';
    if (missing) usable = false;
    if (failureTold) return;
    failureTold = true;
    const advice = missing
      ? 'The program systemd-notify is missing, so systemd is not told how the service is. Install it, or set Type=simple and no WatchdogSec in the unit.'
      : 'systemd could not be told how the service is.';
    log.warn({ program, error: errorText(error) }, advice);
  }

  async function drain(): Promise<void> {
    while (waiting.size > 0) {
      const fields = waiting;
      waiting = new Map();
      if (usable) await send(fields);
    }
    sending = undefined;
  }

  function tell(fields: Readonly<Record<string, string>>): void {
    if (!usable) return;
    for (const [name, value] of Object.entries(fields)) waiting.set(name, value);
    sending ??= drain();
  }

  return {
    watchdogMs: usable ? watchdogMs(environment) : undefined,
    ready: (status) => tell({ READY: '1', STATUS: oneLine(status) }),
    status: (text) => tell({ STATUS: oneLine(text) }),
    alive: (status) => tell({ WATCHDOG: '1', STATUS: oneLine(status) }),
    extendTimeout: (ms) => tell({ EXTEND_TIMEOUT_USEC: String(Math.ceil(ms * MICROSECONDS_PER_MS)) }),
    stopping: (status) => tell({ STOPPING: '1', STATUS: oneLine(status) }),
    flush: async () => {
      await sending;
    },
  };
}

/** A line break would begin a field of its own. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}

function watchdogMs(environment: Readonly<ServiceManagerOptions['environment']>): number | undefined {
  const { WATCHDOG_USEC: microseconds, WATCHDOG_PID: pid } = environment;
  if (pid !== undefined && pid !== String(process.pid)) return undefined;
  if (microseconds === undefined || !/^[1-9]\d*$/.test(microseconds)) return undefined;
  return Number(microseconds) / MICROSECONDS_PER_MS;
}
