// One running process: the configuration, the gateway made from it, and what people, programs and systemd ask it by.
// A change of the gateway's id, which everything carries, builds the gateway anew; every other change is applied to it.

import { join } from 'node:path';
import { createAdmin } from '../admin/admin.ts';
import { loadApiToken } from '../admin/api-token.ts';

import { createGatewayMethods } from '../admin/gateway-methods.ts';
import { createHubAdmin } from '../admin/hub-admin.ts';
import { createScanRunner } from '../admin/scan.ts';
import { createControlServer, type ControlServer } from '../admin/control-server.ts';
import { ConfigStore, type ConfigChangeResult } from '../config/config-store.ts';
import type { AdminApi } from '../core/admin.ts';
import { counted } from '../core/counted.ts';
import { errorText } from '../core/errors.ts';
import type { GatewayMethods } from '../core/gateway-methods.ts';
import type { HealthReport, Service } from '../core/service.ts';
import type { Gateway } from '../gateway.ts';
import type { HealthPart } from '../observe/health.ts';
import { createWatchdog, type Watchdog } from '../observe/watchdog.ts';
import { checkCondition } from '../pipeline/condition.ts';
import { lockDirectory, type DirectoryLock } from '../platform/directory-lock.ts';
import { giveBackMemoryWhenQuiet } from '../platform/memory.ts';
import { systemRandom } from '../platform/random.ts';

import { observe, outboxHealth, prepareDirectory, startGateway, type Observed } from './boot.ts';
import { createConfigControl, type ConfigControl } from './config-control.ts';
import type { DaemonOptions } from './options.ts';

/** Opening a store that has to be repaired may take long; systemd is told so. */
const OPEN_TIMEOUT_MS = 600_000;
const STOP_WEB_MS = 3000;
/** So many, and not one that was taken, are hardly meant to be thrown away. */
const UNROUTED_IN_ROW = 10;

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #lock: DirectoryLock;
  readonly #observed: Observed;
  readonly #config: ConfigControl;
  readonly #methods: GatewayMethods;
  #gateway: Gateway;
  #admin: AdminApi | undefined;
  #control: ControlServer | undefined;
  #replacing: Promise<void> = Promise.resolve();
  #controlHealth: HealthReport = { status: 'starting' };
  #web: Service | undefined;
  #watchdog: Watchdog | undefined;
  #started = false;
  #cancelGiveBack = (): void => {};
  #stopping: Promise<void> | undefined;

  private constructor(
    options: DaemonOptions,
    parts: { lock: DirectoryLock; store: ConfigStore; observed: Observed; gateway: Gateway; methods: GatewayMethods },
  ) {
    this.#options = options;
    this.#lock = parts.lock;
    this.#observed = parts.observed;
    this.#gateway = parts.gateway;
    this.#methods = parts.methods;
    const { clock, configPath } = options;
    this.#config = createConfigControl({
      store: parts.store,
      configPath,
      clock,
      telemetry: parts.observed.telemetry,
      apply: (change) => this.#apply(change),
    });
  }

  /**
   * Resolves when messages are taken and stored. @throws GatewayError GW_DATA_DIRECTORY, GW_DATA_LOCKED, GW_CONFIG_INVALID,
   * GW_CONFIG_IO, GW_STORE_OPEN, GW_STORE_FORMAT; then nothing runs and nothing is held.
   */
  static async start(options: DaemonOptions): Promise<Daemon> {
    await prepareDirectory(options.dataDirectory);
    const lock = await lockDirectory(options.dataDirectory);
    try {
      const { configPath, dataDirectory, modules, clock, log, env, starter } = options;
      const store = await ConfigStore.open({
        configPath,
        dataDirectory,
        modules,
        clock,
        log,
        checkCondition,
        env,
        starter,
      });
      const { loaded } = await store.load();
      const observed = observe(options);
      options.manager.extendTimeout(OPEN_TIMEOUT_MS);
      // A back end may call them before there is anything to answer for.
      const started: { daemon?: Daemon } = {};
      const methods = methodsOf(options, () => started.daemon);
      const gateway = await startGateway(options, observed, loaded.config, methods);
      const daemon = new Daemon(options, { lock, store, observed, gateway, methods });
      started.daemon = daemon;
      await daemon.#serve();
      return daemon;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  get gateway(): Gateway {
    return this.#gateway;
  }

  get admin(): AdminApi | undefined {
    return this.#admin;
  }

  /** Applies edits of the file by hand (SIGHUP). Returns its faults. */
  reload(): Promise<readonly string[]> {
    return this.#config.reload();
  }

  /** Idempotent: every caller gets the same promise. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #serve(): Promise<void> {
    const { manager, clock } = this.#options;
    this.#watchdog = createWatchdog({
      clock,
      manager,
      telemetry: this.#observed.telemetry,
      facts: () => {
        const { waitingAppends: appends, lastCommitAnsweredMs } = this.#gateway.outbox.stats();
        // Polls wait in ingress while its one append is under way: with them alone the outbox sees no queue.
        const waitingAppends = appends + this.#gateway.ingress().waitingBatches;
        const schedulers = this.#gateway
          .adapters()
          .map(({ adapterId, lastProgressMs }) => ({ name: `adapter ${adapterId}`, lastProgressMs }));
        return { waitingAppends, lastCommitAnsweredMs, schedulers };
      },
      statusLine: () => this.#statusLine(),
    });
    await this.#openDoors();
    this.#started = true;
    await this.#config.markStarted();
    this.#watchdog.start();
    manager.ready(this.#statusLine());
    this.#giveBackMemory();
    this.#observed.telemetry.emit('gateway_started', { gateway: this.#gateway.config.gatewayId });
  }

  /** The control socket and the web server. Neither failing keeps the gateway from its work. */
  async #openDoors(): Promise<void> {
    this.#admin = this.#createAdmin();
    await this.#openControl(this.#admin);
    await this.#startWeb();
  }

  async #openControl(admin: AdminApi): Promise<void> {
    const { controlSocket, log } = this.#options;
    const control = createControlServer({ admin, path: controlSocket, log });
    try {
      await control.start();
      this.#control = control;
      this.#controlHealth = { status: 'running' };
    } catch (error) {
      this.#controlHealth = { status: 'failed', reason: errorText(error) };
      log.warn(
        { error: errorText(error) },
        'The control socket could not be opened; the command line cannot ask this gateway.',
      );
    }
  }

  async #startWeb(): Promise<void> {
    const { dataDirectory, clock, log, web } = this.#options;
    const { web: config } = this.#gateway.config;
    this.#web = undefined;
    if (!config.enabled || this.#admin === undefined) return;
    const create = await web.load();
    this.#web = create({
      address: config.address,
      port: config.port,
      admin: this.#admin,
      token: await loadApiToken(dataDirectory, systemRandom),
      clock,
      log: log.child({ part: 'web' }),
      telemetry: this.#observed.telemetry,
    });
    await this.#web.start(new AbortController().signal);
  }

  #createAdmin(): AdminApi {
    const { version, clock } = this.#options;
    const gateway = this.#gateway;
    return createAdmin({
      ...this.#observed,
      gatewayId: gateway.config.gatewayId,
      version,
      clock,
      outbox: gateway.outbox,
      outboxHealth: () => outboxHealth(this.#observed.observer.health(), gateway),
      registry: gateway.registry,
      points: gateway.points,
      dispatcher: gateway.dispatcher,
      adapters: () => gateway.adapters(),
      endpoints: () => gateway.endpoints(),
      config: this.#config,
      hub: createHubAdmin({ hub: () => gateway.hub, config: () => gateway.config.hub, clock }),
      scan: createScanRunner({
        modules: this.#options.modules,
        running: (type) => gateway.adaptersOf(type),
        clock,
        log: this.#options.log.child({ part: 'scan' }),
        profileDirectory: join(this.#options.dataDirectory, 'profiles'),
      }),
      parts: () => this.#parts(),
      stalled: () => this.#watchdog?.stalled() ?? [],
      started: () => this.#started,
      inUse: () => {
        const { waitingBatches, packingBytes } = gateway.ingress();
        const { fullest, waitingBytes } = gateway.state.stats();
        const commands = gateway.commands();
        return {
          state_space_keys: fullest.keys,
          state_space_bytes: fullest.bytes,
          state_waiting_bytes: waitingBytes,
          waiting_commands: gateway.dispatcher.waiting,
          downlink_commands: commands.taken,
          command_records: commands.remembered,
          audit_records: gateway.state.use('audit').keys,
          ingress_waiting_batches: waitingBatches,
          packing_bytes: packingBytes,
          points: gateway.points.size,
          ...gateway.hubInUse(),
        };
      },
    });
  }

  #parts(): readonly HealthPart[] {
    const parts: HealthPart[] = [
      { part: 'configuration', essential: false, report: this.#config.health() },
      { part: 'state store', essential: false, report: this.#gateway.state.health() },
      { part: 'control socket', essential: false, report: this.#controlHealth },
      ...this.#gateway.failedParts(),
      ...this.#gateway.hubParts(),
    ];
    if (this.#web !== undefined) parts.push({ part: 'web', essential: false, report: this.#web.health() });
    const { paused, unroutedInRow } = this.#gateway.ingress();
    if (paused || unroutedInRow >= UNROUTED_IN_ROW) {
      const reason = paused
        ? 'The outbox takes no more for now; sources are slowed down.'
        : `The last ${unroutedInRow} messages were thrown away: there is no upstream, and no route takes them, or their devices are shut out of the local hub.`;
      parts.push({ part: 'ingress', essential: false, report: { status: 'degraded', reason } });
    }
    return parts;
  }

  /** Once what takes much of it is over: the start, or the reading of a large configuration. */
  #giveBackMemory(): void {
    this.#cancelGiveBack();
    this.#cancelGiveBack = giveBackMemoryWhenQuiet(this.#options.clock);
  }

  async #apply(change: ConfigChangeResult): Promise<void> {
    try {
      await this.#follow(change);
    } finally {
      if (this.#stopping === undefined) this.#giveBackMemory();
    }
  }

  async #follow({ loaded, changes }: ConfigChangeResult): Promise<void> {
    const next = loaded.config;
    if (next.gatewayId !== this.#gateway.config.gatewayId) {
      await this.#web?.stop(AbortSignal.timeout(STOP_WEB_MS)).catch(() => {});
      await this.#gateway.stop();
      if (this.#stopping !== undefined) return;
      this.#gateway = await startGateway(this.#options, this.#observed, next, this.#methods);
      if (this.#stopping !== undefined) return;
      const admin = this.#createAdmin();
      this.#admin = admin;
      await this.#startWeb();
      // Who asked for this may be waiting at the control socket: it closes once they are answered.
      const control = this.#control;
      this.#control = undefined;
      this.#replacing = (control?.stop() ?? Promise.resolve()).then(() => this.#openControl(admin)).catch(() => {});
      return;
    }
    await this.#gateway.apply(next);
    if (this.#stopping !== undefined) return;
    if (changes.some(({ part }) => part === 'web')) {
      await this.#web?.stop(AbortSignal.timeout(STOP_WEB_MS));
      await this.#startWeb();
    }
  }

  #statusLine(): string {
    const { messages } = this.#gateway.outbox.stats();
    const links = this.#gateway
      .endpoints()
      .map((endpoint) => endpoint.status())
      .map(({ name, state }) => `${name} ${state}`)
      .join(', ');
    return `${counted(messages, 'message waits', 'messages wait')}; ${links === '' ? 'no endpoint' : links}`;
  }

  async #closeDoors(): Promise<void> {
    await this.#web?.stop(AbortSignal.timeout(STOP_WEB_MS)).catch(() => {});
    await this.#replacing;
    await this.#control?.stop().catch(() => {});
    this.#web = undefined;
    this.#control = undefined;
  }

  async #stop(): Promise<void> {
    const { manager } = this.#options;
    const { telemetry, eventLoop } = this.#observed;
    telemetry.emit('gateway_stopping');
    manager.stopping('Stopping.');
    this.#watchdog?.stop();
    this.#cancelGiveBack();
    // A change under way would open again what is closed here.
    const changed = this.#config.stop();
    this.#gateway.hurry();
    await changed;
    await this.#closeDoors();
    await this.#gateway.stop();
    eventLoop.stop();
    telemetry.close();
    await this.#lock.release();
    await manager.flush();
  }
}

/** What back ends may call of the gateway, whichever one runs then. */
function methodsOf(options: DaemonOptions, daemon: () => Daemon | undefined): GatewayMethods {
  const { clock, log, logLines, restart } = options;
  return createGatewayMethods({
    admin: () => daemon()?.admin,
    logLines: logLines ?? (() => []),
    restart,
    record: (command, actor, answer, sinceMs) =>
      void daemon()?.gateway.dispatcher.record(command, { actor }, answer, sinceMs),
    clock,
    log,
  });
}
