// Telemetry of one client on its way into the store: what was read at once is stored in one commit, and acknowledged after it.

import {
  iotHubErrorOf,
  type IdentityRef,
  type IotHubFault,
  type Principal,
  type TelemetryIntake,
  type TelemetryMessage,
} from '#sdk';
import type { Acknowledgements, Place } from './acknowledgements.ts';

/** Messages of one call, and their bytes. */
const BATCH_MESSAGES = 256;
const BATCH_BYTES = 256 * 1024;
/** What one message costs beside its bytes. */
const MESSAGE_BYTES = 256;

export interface LaneOptions {
  readonly telemetry: TelemetryIntake;
  readonly principal: Principal;
  readonly ref: IdentityRef;
  readonly acknowledgements: Acknowledgements;
  /** There is room again. */
  readonly moved: () => void;
  /** A message was not stored. `isEnd`: nothing is stored or acknowledged any more, so the client has to go. */
  readonly failed: (fault: IotHubFault, isEnd: boolean) => void;
}

interface Waiting {
  readonly message: TelemetryMessage;
  /** 0: QoS 0. */
  readonly messageId: number;
}

export class TelemetryLane {
  readonly #options: LaneOptions;
  #batch: Waiting[] = [];
  #batchBytes = 0;
  #isEnded = false;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  add(message: TelemetryMessage, messageId: number, packetBytes: number): void {
    this.#batch.push({ message, messageId });
    this.#batchBytes += packetBytes + MESSAGE_BYTES;
    if (this.#batch.length >= BATCH_MESSAGES || this.#batchBytes >= BATCH_BYTES) this.flush();
  }

  /** Hands on what was gathered; to be called whenever something else comes, and at the end of what was read. */
  flush(): void {
    const batch = this.#batch;
    if (batch.length === 0) return;
    const messageIds = batch.map(({ messageId }) => messageId);
    const place = this.#options.acknowledgements.begin(messageIds, this.#batchBytes);
    this.#batch = [];
    this.#batchBytes = 0;
    if (!this.#isEnded) void this.#store(batch, place);
  }

  /** Never rejects. */
  async #store(batch: readonly Waiting[], place: Place): Promise<void> {
    const { telemetry, principal, ref, acknowledgements } = this.#options;
    const messages = batch.map(({ message }) => message);
    try {
      await telemetry.send(principal, ref, messages);
      acknowledgements.done(place);
      this.#options.moved();
    } catch (error) {
      const fault = iotHubErrorOf(error);
      if (batch.length > 1 && isRefusal(fault)) await this.#storeOneByOne(batch, place);
      else this.#fail(batch, place, fault);
    }
  }

  /** One that the hub will never take must not hold up the others that came with it. */
  async #storeOneByOne(batch: readonly Waiting[], place: Place): Promise<void> {
    const places = this.#options.acknowledgements.split(place);
    for (const [index, one] of batch.entries()) {
      const own = places[index];
      if (this.#isEnded || own === undefined) return;
      await this.#store([one], own);
    }
  }

  #fail(batch: readonly Waiting[], place: Place, fault: IotHubFault): void {
    // Nothing is promised for QoS 0: it is lost, and counted, unless it is what the client must not send.
    const isEnd = isRefusal(fault) || batch.some(({ messageId }) => messageId !== 0);
    for (const [index] of batch.entries()) {
      if (this.#isEnded) return;
      this.#isEnded = isEnd && index === batch.length - 1;
      this.#options.failed(fault, this.#isEnded);
    }
    if (isEnd) return;
    this.#options.acknowledgements.done(place);
    this.#options.moved();
  }
}

/** The message is at fault, and sending it again is of no use. */
export function isRefusal({ httpStatus }: IotHubFault): boolean {
  return httpStatus < 500 && httpStatus !== 429;
}
