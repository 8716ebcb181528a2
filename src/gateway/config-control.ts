// Changes of the configuration while running: each becomes a generation, is applied, and is marked healthy or taken back.
// A trial is taken back when its time is over. The store decides what is valid; this decides when.
//
// Invariant: one change at a time, from the look at the file or the proposal until it is applied and marked; none once it
// stops. What a stop cuts short is neither healthy nor taken back: it stands in the file and runs at the next start.

import type { ConfigChangeResult, ConfigStore, RunningConfig } from '../config/config-store.ts';
import { formatFault } from '../config/fault.ts';
import { diffConfig } from '../config/diff.ts';
import { shownText } from '../config/shown-text.ts';
import type { ConfigAdmin, ConfigCheckView, ConfigGenerationView, ConfigView } from '../core/admin.ts';
import type { Clock } from '../core/clock.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import type { HealthReport } from '../core/service.ts';
import { isoTime } from '../core/time.ts';
import type { Telemetry } from '../observe/events.ts';

export interface ConfigControlOptions {
  readonly store: ConfigStore;
  readonly configPath: string;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  /** Makes the parts follow; rejects when they cannot. */
  readonly apply: (change: ConfigChangeResult) => Promise<void>;
}

export interface ConfigControl extends ConfigAdmin {
  /** What was loaded at start runs. */
  markStarted(): Promise<void>;
  /** Looks at the file for edits by hand and applies them. Returns the faults, none when it is applied or unchanged. */
  reload(): Promise<readonly string[]>;
  health(): HealthReport;
  /**
   * Takes no more changes; resolves when the one under way has ended. The timer of a trial ends with it: the next start
   * takes an unconfirmed one back.
   */
  stop(): Promise<void>;
}

/** Between two looks for secrets that cannot be read. */
const RECOVERY_MS = 10_000;

export function createConfigControl(options: ConfigControlOptions): ConfigControl {
  const { store, clock, telemetry } = options;
  let cancelTrial = (): void => {};
  let cancelRecovery = (): void => {};
  let last: Promise<unknown> = Promise.resolve();
  let waitingReload: Promise<readonly string[]> | undefined;
  let isStopping = false;

  function oneAtATime<T>(change: () => Promise<T>): Promise<T> {
    const done = last.then(() => {
      if (isStopping) throw new GatewayError('GW_ABORTED', 'The gateway stops; nothing is changed any more.');
      return change();
    });
    last = done.catch(() => {});
    void last.then(armRecovery);
    return done;
  }

  /** Applies a change that is on disk. What cannot be applied is taken back before the error is told. */
  async function put(change: ConfigChangeResult): Promise<void> {
    const { number } = change.generation;
    try {
      await options.apply(change);
    } catch (error) {
      if (isStopping) throw error;
      telemetry.emit('config_not_applied', { generation: number, error: errorText(error) });
      await options.apply(await store.revert(number, `Could not be applied: ${errorText(error)}`));
      throw error;
    }
    if (isStopping) return;
    await store.markHealthy(number);
    telemetry.emit('config_applied', {
      generation: number,
      actor: change.generation.actor,
      changes: change.changes.length,
    });
    armTrial();
  }

  function armTrial(): void {
    cancelTrial();
    const trial = store.trial();
    if (trial === undefined) return;
    cancelTrial = clock.after(trial.remainingMs, () => {
      oneAtATime(() => takeBack(trial.number, 'Nobody confirmed the trial in time.')).catch((error: unknown) => {
        if (isStopping) return;
        telemetry.emit('config_not_applied', { generation: trial.number, error: errorText(error) });
      });
    });
  }

  async function takeBack(number: number, reason: string): Promise<void> {
    const change = await store.revert(number, reason);
    cancelTrial();
    telemetry.emit('config_reverted', { generation: number, to: change.generation.number, reason });
    await options.apply(change);
  }

  /** A secret may come late: a mount, a credential. */
  function armRecovery(): void {
    cancelRecovery();
    if (isStopping || store.current().loaded.partFaults.length === 0) return;
    cancelRecovery = clock.after(RECOVERY_MS, () => {
      oneAtATime(recover).catch((error: unknown) => {
        if (isStopping) return;
        const { number } = store.current().generation;
        telemetry.emit('config_not_applied', { generation: number, error: errorText(error) });
      });
    });
  }

  async function recover(): Promise<void> {
    const change = await store.recover();
    if (change === undefined) return;
    await options.apply(change);
    if (isStopping) return;
    telemetry.emit('config_applied', {
      generation: change.generation.number,
      actor: 'recovery',
      changes: change.changes.length,
    });
  }

  async function reload(): Promise<readonly string[]> {
    const change = await store.reload();
    if (change === undefined) return [];
    if (change.faults.length > 0) telemetry.emit('config_refused', { faults: change.faults });
    else await put(change);
    return change.faults;
  }

  return {
    async markStarted() {
      await store.markHealthy(store.current().generation.number);
      armTrial();
      armRecovery();
    },
    reload() {
      // One that has not begun yet will see what is in the file by then.
      waitingReload ??= oneAtATime(() => {
        waitingReload = undefined;
        return reload();
      });
      return waitingReload;
    },
    health: () =>
      store.current().faults.length === 0
        ? { status: 'running' }
        : { status: 'degraded', reason: degradedReason(store.current()) },
    async stop() {
      isStopping = true;
      cancelTrial();
      cancelRecovery();
      await last;
    },
    view: () => configView(store, options),
    generations: () => Promise.resolve(store.list().map(generationView)),
    read: (generation) => readShown(store, generation),
    check: (text) => Promise.resolve(checkView(store, text)),
    checkBase: (base) => store.checkBase(base),
    propose: ({ text, ...proposal }) =>
      oneAtATime(async () => {
        await put(await store.propose(text, proposal));
        return generationView(store.current().generation);
      }),
    confirm: (generation, actor) =>
      oneAtATime(async () => {
        await store.confirm(generation);
        cancelTrial();
        telemetry.emit('config_confirmed', { generation, actor });
      }),
    revert: (generation, actor) => oneAtATime(() => takeBack(generation, `Taken back by ${actor}.`)),
  };
}

function degradedReason(running: RunningConfig): string {
  return `Generation ${running.generation.number} runs, because the configuration in the file does not load: ${running.faults.join('; ')}`;
}

function configView(store: ConfigStore, { configPath, clock }: ConfigControlOptions): ConfigView {
  const { generation, faults, loaded } = store.current();
  const trial = store.trial();
  return {
    generation: generation.number,
    state: generation.state,
    path: configPath,
    degraded: faults.length + loaded.partFaults.length > 0,
    faults: [...faults, ...loaded.partFaults.map(formatFault)],
    ...(trial === undefined ? {} : { trialEndsAt: isoTime(clock.wallMs() + trial.remainingMs) }),
  };
}

function generationView(generation: ReturnType<ConfigStore['list']>[number]): ConfigGenerationView {
  const { number, state, actor, at, base } = generation;
  return { number, state, actor, at, base };
}

async function readShown(store: ConfigStore, generation: number): Promise<string> {
  const shown = shownText(await store.read(generation), store.catalogue);
  if (shown !== undefined) return shown;
  throw new GatewayError(
    'GW_CONFIG_INVALID',
    `Generation ${generation} is not YAML, and what in it is secret cannot be told; it is in config-generations of the data directory.`,
  );
}

function checkView(store: ConfigStore, text: string): ConfigCheckView {
  const result = store.check(text);
  if (!result.ok) return { faults: result.faults.map(formatFault), changes: [] };
  const changes = diffConfig(store.current().loaded, result.loaded, store.catalogue);
  return { faults: [], changes: changes.map(({ kind, path, part, apply }) => `${path}: ${kind} (${part}: ${apply})`) };
}
