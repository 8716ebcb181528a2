// Cloud-to-device messages on their way to a device: as many as it gives credit for, each locked until the device says what
// becomes of it (contract/device-amqp.md, section 6).

import {
  LIMITS,
  uuidBytes,
  type AmqpOutcome,
  type AmqpSender,
  type AmqpSent,
  type Clock,
  type CommandOutcome,
  type DeliveredCommand,
  type Hub,
  type IdentityRef,
  type SessionId,
} from '#sdk';
import { amqpErrorOf } from './errors.ts';
import { encodeCommand } from './message-out.ts';
import { unsettledDeliveries } from './unsettled.ts';

const OUTCOMES: Readonly<Record<AmqpOutcome, CommandOutcome>> = {
  accepted: 'complete',
  rejected: 'reject',
  released: 'abandon',
  modified: 'abandon',
};

export interface CommandLinkContext {
  readonly hub: Hub;
  readonly hubId: string;
  readonly ref: IdentityRef;
  readonly sessionId: SessionId;
  readonly clock: Clock;
}

export class CommandLink {
  readonly #link: AmqpSender;
  readonly #context: CommandLinkContext;
  readonly #unsettled = unsettledDeliveries();
  /** Commands that the hub may still hand over. */
  #granted = 0;
  /** Handed over as the device took its credit back. */
  readonly #waiting: DeliveredCommand[] = [];

  constructor(link: AmqpSender, context: CommandLinkContext) {
    this.#link = link;
    this.#context = context;
    link.onCapacity = () => this.#flush();
    // The credit of a device that was quicker than the opening of its session has come already.
    this.#flush();
  }

  deliver(command: DeliveredCommand): void {
    this.#granted = Math.max(0, this.#granted - 1);
    this.#waiting.push(command);
    this.#flush();
  }

  /** The link is gone. What it has not sent comes again when its lock is over. */
  close(): void {
    this.#link.onCapacity = () => {};
    this.#waiting.length = 0;
    this.#grant(0);
  }

  #flush(): void {
    const { clock } = this.#context;
    while (this.#waiting.length > 0 && this.#link.capacity > 0) {
      const command = this.#waiting.shift() as DeliveredCommand;
      // What was locked too long ago is handed over once more, or has gone another way.
      if (command.lockedUntilMs > clock.monotonicMs()) this.#send(command);
    }
    this.#grant(Math.min(this.#link.capacity, LIMITS.hub_device_commands));
  }

  /** Also takes back what a device that took its credit back was to get. */
  #grant(credit: number): void {
    const more = credit - this.#granted;
    this.#granted = credit;
    if (more !== 0) this.#context.hub.sessions.grantCommands(this.#context.sessionId, more);
  }

  #send(command: DeliveredCommand): void {
    const sent = this.#link.send(encodeCommand(command, this.#context.ref), {
      tag: uuidBytes(command.lockToken),
      onOutcome: (outcome, sent) => void this.#settle(command, outcome, sent),
    });
    this.#unsettled.add(sent);
  }

  async #settle({ lockToken }: DeliveredCommand, outcome: AmqpOutcome, sent: AmqpSent): Promise<void> {
    const { hub, hubId, ref, clock } = this.#context;
    try {
      await hub.commands.settle(hubId, ref.deviceId, lockToken, OUTCOMES[outcome]);
      sent.settle('accepted');
    } catch (error) {
      // For a device that has settled by itself nothing is left to say: the command is delivered again.
      sent.settle(amqpErrorOf(error, clock));
    }
    this.#unsettled.remove(sent);
  }
}
