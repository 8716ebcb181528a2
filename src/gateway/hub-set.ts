// The local hub, built when it is switched on, beside the gateway's start, which never waits for it; what it lacks (a port, a
// key, a store) is shown in its health, and tried again.

import type { HubConfig } from '../config/hub-schema.ts';
import { errorText } from '../core/errors.ts';
import type { LimitName } from '../core/limits.ts';
import type { Message } from '../core/message.ts';
import type { HubService } from '../hub/hub.ts';
import type { HealthPart } from '../observe/health.ts';
import { RunningHub, type RunningHubOptions } from './running-hub.ts';

/** Pause before what could not be built is tried again. */
const RETRY_MS = 15_000;

/** The hub that runs, if any. Changes are applied one after the other. */
export class HubSet {
  readonly #options: RunningHubOptions;
  #config: HubConfig | undefined;
  #running: RunningHub | undefined;
  #failure: string | undefined;
  #cancelRetry: (() => void) | undefined;
  #turn: Promise<void> = Promise.resolve();
  readonly #life = new AbortController();

  constructor(options: RunningHubOptions) {
    this.#options = options;
  }

  /** The behaviour, for the command line and the UI; undefined while there is none. */
  get hub(): HubService | undefined {
    return this.#running?.hub;
  }

  /**
   * Makes the hub follow another configuration. Resolves when the earlier one has ended, in an orderly way until `deadline`
   * aborts; the new one is built after that.
   */
  apply(config: HubConfig | undefined, deadline: AbortSignal): Promise<void> {
    this.#config = config;
    const ended = this.#turn.then(() => this.#end(deadline));
    this.#turn = ended.then(() => this.#build());
    return ended;
  }

  /**
   * Makes the hub that runs follow other policies, authorities of devices and certificates of its own: sessions that lost what
   * let them in end, nobody else notices. Resolves when they were told. Where that fails the hub is built anew.
   */
  follow(config: HubConfig, deadline: AbortSignal): Promise<void> {
    this.#config = config;
    this.#turn = this.#turn.then(async () => {
      try {
        await this.#running?.follow(config);
      } catch (error) {
        this.#options.log.warn(
          { error: errorText(error) },
          'The local hub could not be changed in place and is built anew.',
        );
        await this.#end(deadline);
        await this.#build();
      }
    });
    return this.#turn;
  }

  stop(deadline: AbortSignal): Promise<void> {
    this.#life.abort();
    return this.apply(undefined, deadline);
  }

  /** There is another upstream. */
  async cloudChanged(): Promise<void> {
    try {
      await this.hub?.cloudChanged();
    } catch (error) {
      // Looked at again when they connect.
      this.#options.log.warn({ error: errorText(error) }, 'Sessions of devices of the cloud could not be looked at.');
    }
  }

  /** A message came in: whether it goes to the hub's events. Those of sessions were let in with their sender. */
  admits({ hub, deviceId }: Message): boolean {
    return hub !== undefined || (this.#running?.hub.admits(deviceId) ?? true);
  }

  /** Against the limits of its name. */
  inUse(): Readonly<Partial<Record<LimitName, number>>> | undefined {
    return this.#running?.inUse();
  }

  parts(): readonly HealthPart[] {
    if (this.#config === undefined) return [];
    if (this.#failure !== undefined) {
      return [{ part: 'hub', essential: false, report: { status: 'failed', reason: this.#failure } }];
    }
    const reports = this.#running?.health() ?? [['hub', { status: 'starting' }] as const];
    return reports.map(([part, report]) => ({ part, essential: false, report }));
  }

  async #build(): Promise<void> {
    const config = this.#config;
    const { signal } = this.#life;
    if (config === undefined || signal.aborted) return;
    try {
      this.#running = await RunningHub.start(config, this.#options, signal);
      this.#failure = undefined;
    } catch (error) {
      const { log, clock } = this.#options;
      if (this.#failure === undefined) log.error({ error: errorText(error) }, 'The local hub could not be started.');
      this.#failure = errorText(error);
      this.#cancelRetry = clock.after(RETRY_MS, () => {
        this.#turn = this.#turn.then(() => this.#build());
      });
    }
  }

  async #end(deadline: AbortSignal): Promise<void> {
    this.#cancelRetry?.();
    this.#failure = undefined;
    const running = this.#running;
    this.#running = undefined;
    await running?.stop(deadline);
  }
}
