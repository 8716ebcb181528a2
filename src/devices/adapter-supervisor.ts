// Starts and stops adapters, restarts with backoff what could not start, and isolates each from the others: a fault of
// one adapter ends in its own health report. Nobody waits for ever for one that neither starts nor stops.

import type { Adapter, AdapterContext } from '../core/adapter.ts';
import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import { errorText } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import { alsoDegraded, type HealthReport } from '../core/service.ts';
import type { StateSpace } from '../core/state.ts';
import type { Telemetry } from '../observe/events.ts';
import type { FieldMeters } from '../observe/metrics.ts';
import type { Ingress } from '../pipeline/ingress.ts';
import type { Transform } from '../pipeline/transform.ts';
import { abortable } from '../platform/abort.ts';
import type { DeviceRegistry } from './device-registry.ts';
import type { PointCache } from './point-cache.ts';

/** An adapter ready to be built: its definition bound to its configuration. */
export interface AdapterPlan {
  readonly adapterId: string;
  readonly type: string;
  /** The leaf devices that its configuration names. */
  readonly deviceIds?: readonly string[];
  /** Why it does less than it seems to, however well it runs. */
  readonly caveat?: string;
  readonly create: (context: AdapterContext) => Promise<Adapter>;
}

export interface AdapterStatus {
  readonly adapterId: string;
  readonly type: string;
  readonly health: HealthReport;
  readonly lastProgressMs: number | undefined;
}

export interface SupervisorOptions {
  readonly gatewayId: DeviceId;
  readonly ingress: Ingress;
  readonly transform: Transform;
  readonly registry: DeviceRegistry;
  readonly points: PointCache;
  readonly meters: FieldMeters;
  readonly clock: Clock;
  readonly log: Logger;
  readonly telemetry: Telemetry;
  /** Folder for captures of raw bytes. */
  readonly dataDirectory: string;
  readonly captureDirectory: string;
  /** What an adapter keeps over restarts. */
  readonly stateOf: (adapterId: string) => StateSpace;
}

const RESTART_FIRST_MS = 1000;
const RESTART_LAST_MS = 30_000;
/** Others wait no longer for the first attempt of one; it goes on. */
const START_MS = 10_000;
/** For an orderly stop. The rest of a gateway's time for stopping belongs to what stops after the adapters. */
const STOP_MS = 7000;
/** For what is left to do once the signal has aborted; an adapter that has not ended then is left behind. */
const STOP_GRACE_MS = 1000;

const NOT_ENDED = 'was told to stop and has not ended; it may hold its ports until the gateway is restarted.';

interface Entry {
  readonly plan: AdapterPlan;
  readonly stop: AbortController;
  adapter: Adapter | undefined;
  failure: string | undefined;
  running: Promise<unknown>;
  /** Once it was told to stop. */
  ended: Promise<void> | undefined;
  isLeftBehind: boolean;
}

export class AdapterSupervisor {
  readonly #options: SupervisorOptions;
  readonly #entries = new Map<string, Entry>();
  /** By adapter: the last that was removed and has not ended. */
  readonly #leftBehind = new Map<string, Entry>();

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Starts an adapter; resolves after its first attempt, which may have failed and is then repeated, or after START_MS. */
  async add(plan: AdapterPlan): Promise<void> {
    const entry: Entry = {
      plan,
      stop: new AbortController(),
      adapter: undefined,
      failure: undefined,
      running: Promise.resolve(),
      ended: undefined,
      isLeftBehind: false,
    };
    this.#entries.set(plan.adapterId, entry);
    this.#options.registry.reserve(plan.adapterId, plan.deviceIds ?? []);
    const first = this.#attempt(entry);
    entry.running = first.then((started) => (started ? undefined : this.#retry(entry)));
    await this.#endsWithin(first, START_MS);
  }

  /** Stops one adapter and forgets its devices, unless a new plan for it follows. */
  async remove(adapterId: string, signal: AbortSignal, options: { keepDevices?: boolean } = {}): Promise<void> {
    const entry = this.#entries.get(adapterId);
    if (entry === undefined) return;
    const ended = await this.#stopEntry(entry, signal);
    this.#entries.delete(adapterId);
    if (!ended) this.#leaveBehind(entry);
    if (options.keepDevices === true) return;
    const { registry, points, transform } = this.#options;
    for (const { deviceId } of registry.list(adapterId)) {
      points.removeDevice(deviceId);
      transform.removeDevice(deviceId);
    }
    this.#options.ingress.watchWaiting();
    registry.setAdapter(adapterId, []);
    registry.reserve(adapterId, []);
  }

  adapterOf(deviceId: DeviceId): Adapter | undefined {
    const device = this.#options.registry.get(deviceId);
    return device === undefined ? undefined : this.#entries.get(device.adapterId)?.adapter;
  }

  adaptersOf(type: string): readonly Adapter[] {
    const entries = [...this.#entries.values()].filter(({ plan }) => plan.type === type);
    return entries.flatMap(({ adapter }) => (adapter === undefined ? [] : [adapter]));
  }

  status(): readonly AdapterStatus[] {
    const gone = [...this.#leftBehind.values()].filter(({ plan }) => !this.#entries.has(plan.adapterId));
    return [...this.#entries.values(), ...gone].map((entry) => ({
      adapterId: entry.plan.adapterId,
      type: entry.plan.type,
      health: this.#healthOf(entry),
      // Whoever is told to stop has nothing to get on with.
      lastProgressMs: entry.stop.signal.aborted ? undefined : entry.adapter?.lastProgressMs?.(),
    }));
  }

  /** Stops all at the same time. */
  async stop(signal: AbortSignal): Promise<void> {
    const stops = [...this.#entries.values()].map((entry) => this.#stopEntry(entry, signal));
    // They had their time, and a last chance.
    const last = [...this.#leftBehind.values()].map((entry) => this.#stopEntry(entry, AbortSignal.abort()));
    await Promise.all([...stops, ...last]);
  }

  #healthOf({ plan, stop, adapter, failure, isLeftBehind }: Entry): HealthReport {
    if (isLeftBehind) return { status: 'failed', reason: `It ${NOT_ENDED}` };
    if (stop.signal.aborted) return { status: 'draining', reason: 'It is being stopped.' };
    const own: HealthReport =
      failure === undefined ? (adapter?.health() ?? { status: 'starting' }) : { status: 'failed', reason: failure };
    const told = plan.caveat === undefined ? own : alsoDegraded(own, plan.caveat);
    return this.#leftBehind.has(plan.adapterId)
      ? alsoDegraded(told, `Its run before the last change ${NOT_ENDED}`)
      : told;
  }

  /** Whether it ended in its time; else it goes on ending beside all others. */
  async #stopEntry(entry: Entry, signal: AbortSignal): Promise<boolean> {
    const { clock, telemetry } = this.#options;
    const late = new AbortController();
    const cancel = clock.after(STOP_MS, () => late.abort());
    const hurry = AbortSignal.any([signal, late.signal]);
    entry.stop.abort();
    entry.ended ??= this.#end(entry, hurry);
    await abortable(entry.ended, hurry).catch(() => {});
    cancel();
    const ended = await this.#endsWithin(entry.ended, STOP_GRACE_MS);
    if (!ended) telemetry.emit('adapter_left_behind', { adapter: entry.plan.adapterId });
    return ended;
  }

  async #end(entry: Entry, signal: AbortSignal): Promise<void> {
    await entry.running;
    if (entry.adapter === undefined) return;
    await entry.adapter.stop(signal).catch((error: unknown) => {
      this.#options.log.warn(
        { adapter: entry.plan.adapterId, error: errorText(error) },
        'An adapter did not stop in an orderly way.',
      );
    });
    this.#options.telemetry.emit('adapter_stopped', { adapter: entry.plan.adapterId });
  }

  #leaveBehind(entry: Entry): void {
    const { adapterId } = entry.plan;
    entry.isLeftBehind = true;
    this.#leftBehind.set(adapterId, entry);
    void entry.ended?.then(() => {
      if (this.#leftBehind.get(adapterId) === entry) this.#leftBehind.delete(adapterId);
    });
  }

  #endsWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(ms, () => resolve(false));
      void work.then(() => {
        cancel();
        resolve(true);
      });
    });
  }

  async #attempt(entry: Entry): Promise<boolean> {
    const { plan, stop } = entry;
    const { registry, points, transform, telemetry } = this.#options;
    try {
      entry.adapter ??= await plan.create(this.#context(entry));
      if (stop.signal.aborted) return false;
      const devices = entry.adapter.devices();
      registry.setAdapter(plan.adapterId, devices);
      for (const device of devices) {
        points.setDevice(device);
        transform.setDevice(device);
      }
      await entry.adapter.start(stop.signal);
      entry.failure = undefined;
      telemetry.emit('adapter_started', { adapter: plan.adapterId, type: plan.type, devices: devices.length });
      return true;
    } catch (error) {
      entry.failure = errorText(error);
      telemetry.emit('adapter_failed', { key: plan.adapterId, adapter: plan.adapterId, error: entry.failure });
      return false;
    }
  }

  async #retry(entry: Entry): Promise<void> {
    let delayMs = RESTART_FIRST_MS;
    while (!entry.stop.signal.aborted) {
      try {
        await this.#options.clock.sleep(delayMs, entry.stop.signal);
      } catch {
        return;
      }
      if (await this.#attempt(entry)) return;
      delayMs = Math.min(delayMs * 2, RESTART_LAST_MS);
    }
  }

  #context(entry: Entry): AdapterContext {
    const { adapterId } = entry.plan;
    const {
      gatewayId,
      ingress,
      points,
      registry,
      transform,
      meters,
      clock,
      log,
      telemetry,
      dataDirectory,
      captureDirectory,
      stateOf,
    } = this.#options;
    return {
      adapterId,
      gatewayId,
      clock,
      log: log.child({ adapter: adapterId }),
      dataDirectory,
      captureDirectory,
      state: stateOf(adapterId),
      publishReadings(batch) {
        const shaped = transform.shape(batch);
        points.update(shaped);
        ingress.readings(shaped);
      },
      publishMessages: (messages, signal) => ingress.messages(messages, signal),
      ready: (signal) => ingress.ready(signal),
      storeReadings(batch, signal) {
        const shaped = transform.shape(batch);
        if (shaped.isHistorical !== true) points.update(shaped);
        return ingress.storeReadings(shaped, signal);
      },
      addDevice(device) {
        const known = registry.get(device.deviceId);
        if (known?.info === device && known.adapterId === adapterId) return undefined;
        const refusal = registry.add(adapterId, device);
        if (refusal !== undefined) return refusal;
        points.setDevice(device);
        transform.setDevice(device);
        return undefined;
      },
      reportRefusal: (reason, fields = {}) =>
        telemetry.emit('field_refused', { key: `${adapterId}:${reason}`, adapter: adapterId, reason, ...fields }),
      reportDevice(deviceId, state, reason) {
        // Its devices are those of its successor by now.
        if (!entry.isLeftBehind) registry.report(deviceId, state, reason);
      },
      reportExchange: (exchange) => meters.exchange(adapterId, exchange),
      reportPoll: (timing) => meters.poll(adapterId, timing),
    };
  }
}
