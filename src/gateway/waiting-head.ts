// A protocol head of the local hub that is loaded when its first client comes: a hub that nobody uses costs little.

import { errorText } from '../core/errors.ts';
import type { HeadContext, ProtocolHead } from '../core/hub/head.ts';
import type { ToSession } from '../core/hub/session.ts';
import type { HeadDefinition } from '../core/module.ts';
import type { HealthReport } from '../core/service.ts';
import type { HubDoorsService } from '../wire/hub-doors.ts';

export class WaitingHead implements ProtocolHead {
  readonly #definition: HeadDefinition;
  readonly #context: HeadContext;
  readonly #doors: HubDoorsService;
  #head: ProtocolHead | undefined;
  #loading: Promise<void> | undefined;
  #failure: string | undefined;

  constructor(definition: HeadDefinition, context: HeadContext, doors: HubDoorsService) {
    this.#definition = definition;
    this.#context = context;
    this.#doors = doors;
  }

  /** Opens the doors; who comes waits until the head itself is there. */
  async start(signal: AbortSignal): Promise<void> {
    await this.#doors.expect(this.#definition.type, () => (this.#loading ??= this.#load(signal)));
  }

  async stop(signal: AbortSignal): Promise<void> {
    await this.#loading;
    await this.#head?.stop(signal);
  }

  deliver(items: readonly ToSession[]): void {
    this.#head?.deliver(items);
  }

  health(): HealthReport {
    if (this.#failure !== undefined) return { status: 'failed', reason: this.#failure };
    return this.#head?.health() ?? this.#doors.healthOf(this.#definition.type);
  }

  /** Does not reject: one that cannot be built is shown as failed, and its clients are turned away. */
  async #load(signal: AbortSignal): Promise<void> {
    const { type, load } = this.#definition;
    try {
      const head = (await load())(this.#context);
      this.#head = head;
      await head.start(signal);
    } catch (error) {
      this.#failure = errorText(error);
      this.#context.log.error(
        { head: type, error: this.#failure },
        'A protocol head of the local hub could not be started.',
      );
    }
  }
}
