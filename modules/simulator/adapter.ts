// Keeps the process of the simulated site running: starts it, says how it is, starts it again when it ends.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Adapter, type AdapterContext, type HealthReport, isGatewayError } from '#sdk';
import type { SimulatorConfig } from './config.ts';
import { isSiteReport, type SiteOptions, type SiteReport } from './protocol.ts';

/** Beside this file in the sources; an entry of its own in the bundle. */
const ENTRY = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './server.ts' : './simulator.mjs', import.meta.url),
);

/** Pause before the process is started again; doubles while it does not come up. */
const RESTART_MIN_MS = 500;
const RESTART_MAX_MS = 10_000;
/** How long a process that was asked to end may take. */
const END_MS = 2000;
/** Bytes of the process's last words that are kept. */
const STDERR_BYTES = 2000;

export function createSimulator(config: SimulatorConfig, context: AdapterContext): Adapter {
  return new Simulator(config, context);
}

class Simulator implements Adapter {
  readonly #config: SimulatorConfig;
  readonly #context: AdapterContext;
  readonly #stopping = new AbortController();
  #health: HealthReport = { status: 'stopped' };
  #running: Promise<void> | undefined;
  #firstOutcome: (() => void) | undefined;

  constructor(config: SimulatorConfig, context: AdapterContext) {
    this.#config = config;
    this.#context = context;
  }

  devices(): [] {
    return [];
  }

  health(): HealthReport {
    return this.#health;
  }

  /** Resolves as soon as the site listens or is known not to. */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#running !== undefined || this.#stopping.signal.aborted) return;
    this.#health = { status: 'starting' };
    const outcome = new Promise<void>((resolve) => {
      this.#firstOutcome = resolve;
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    this.#running = this.#keepRunning();
    await outcome;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#health = { status: 'stopped' };
  }

  async #keepRunning(): Promise<void> {
    const { clock, log } = this.#context;
    let pauseMs = RESTART_MIN_MS;
    let said: string | undefined;
    while (!this.#stopping.signal.aborted) {
      const cameUp = await this.#runOnce();
      if (this.#stopping.signal.aborted) return;
      pauseMs = cameUp ? RESTART_MIN_MS : Math.min(pauseMs * 2, RESTART_MAX_MS);
      const { reason } = this.#health;
      // Said once: the health report shows it as long as it lasts.
      if (reason !== said) log.warn({ reason, pauseMs }, 'The simulated site ended; it is started again.');
      said = reason;
      try {
        await clock.sleep(pauseMs, this.#stopping.signal);
      } catch (error) {
        if (!isGatewayError(error, 'GW_ABORTED')) throw error;
      }
    }
  }

  /** One life of the process; returns whether it came so far as to report. */
  async #runOnce(): Promise<boolean> {
    const { address, port } = this.#config.listen;
    const { leaf, scale } = this.#config;
    const options: SiteOptions = {
      address,
      port,
      startWallMs: this.#context.clock.wallMs(),
      ...(leaf !== undefined && { leaf: { url: leaf.url, deviceId: leaf.device_id } }),
      ...(scale === undefined ? {} : { scalePath: resolve(this.#context.dataDirectory, scale.path) }),
    };
    const child = fork(ENTRY, [JSON.stringify(options)], {
      // Flags of the gateway (heap size, inspector) are not for its child.
      execArgv: [],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    // What ends it is told by lifeOf; an error beside that must not end the gateway.
    child.on('error', () => {});
    let lastWords = '';
    child.stderr?.on('data', (bytes: Buffer) => {
      lastWords = (lastWords + bytes.toString()).slice(-STDERR_BYTES);
    });
    const troubles: Partial<Record<'port' | 'scale', string>> = {};
    let cameUp = false;
    child.on('message', (message) => {
      if (!isSiteReport(message)) return;
      cameUp = true;
      this.#take(message, troubles);
    });
    const end = (): void => this.#end(child);
    this.#stopping.signal.addEventListener('abort', end, { once: true });
    if (this.#stopping.signal.aborted) end();
    const reason = await lifeOf(child);
    this.#stopping.signal.removeEventListener('abort', end);
    if (lastWords !== '') this.#context.log.debug({ stderr: lastWords }, 'Last words of the simulated site.');
    this.#settle({ status: 'degraded', reason: `The simulated site ended (${reason}); it is started again.` });
    return cameUp;
  }

  /** Each part of the site has troubles of its own; told in the log when they begin. */
  #take(report: SiteReport, troubles: Partial<Record<'port' | 'scale', string>>): void {
    const part = report.kind === 'scale' || report.kind === 'no_scale' ? 'scale' : 'port';
    const reason = this.#troubleOf(report);
    if (reason === undefined) delete troubles[part];
    else if (troubles[part] !== reason) {
      troubles[part] = reason;
      this.#context.log.warn({ part, reason }, 'A part of the simulated site does not work.');
    }
    const reasons = Object.values(troubles);
    // Of the port it is always told how it went; the scale alone settles nothing.
    if (part === 'scale' && this.#health.status === 'starting') return;
    this.#settle(reasons.length === 0 ? { status: 'running' } : { status: 'degraded', reason: reasons.join(' ') });
  }

  #troubleOf(report: SiteReport): string | undefined {
    const { address, port } = this.#config.listen;
    switch (report.kind) {
      case 'listening':
      case 'scale':
        return undefined;
      case 'refused':
        return refusal(report.code, address, port);
      case 'no_scale':
        return `The simulated scale has no pseudo-terminal: ${report.reason}.`;
    }
  }

  #settle(health: HealthReport): void {
    this.#health = health;
    this.#firstOutcome?.();
    this.#firstOutcome = undefined;
  }

  #end(child: ChildProcess): void {
    if (child.connected) child.disconnect();
    const cancel = this.#context.clock.after(END_MS, () => child.kill('SIGKILL'));
    child.once('exit', cancel);
  }
}

/** Resolves with why the process ended. */
async function lifeOf(child: ChildProcess): Promise<string> {
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    return signal === null ? `exit code ${code}` : signal;
  } catch (error) {
    // `error` is emitted when it could not be started at all.
    return error instanceof Error ? error.message : String(error);
  }
}

function refusal(code: string, address: string, port: number): string {
  const where = `${address}:${port}`;
  switch (code) {
    case 'EADDRINUSE':
      return `The simulated site cannot listen on ${where}: the port is in use. Stop the other program or set listen.port.`;
    case 'EACCES':
      return `The simulated site may not listen on ${where}. Choose a port above 1023 in listen.port.`;
    case 'EADDRNOTAVAIL':
      return `The simulated site cannot listen on ${where}: this machine has no such address. Set listen.address.`;
    default:
      return `The simulated site cannot listen on ${where} (${code}).`;
  }
}
