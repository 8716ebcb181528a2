// Publishes of clients: who may, what is stored and passed on before the answer, in which order the answers leave.

import type { Client, PublishPacket } from 'aedes';
import type { Clock } from '#sdk';
import type { Principal } from './authenticator.ts';
import type { Connection } from './connection.ts';
import type { Devices } from './devices.ts';
import type { Publish } from './dialect.ts';
import type { FieldAedes } from './field-aedes.ts';
import type { IncomingPackets } from './incoming-packets.ts';
import { refusalReason, type Delivery, type Intake } from './intake.ts';
import { Refusal } from './refusal.ts';

/** How long a client is held whose message could not be stored, so that it does not resend without end. */
export const NOT_STORED_PAUSE_MS = 1000;

type Done = (error?: Error | null) => void;

export interface PublishingOptions {
  readonly clock: Clock;
  readonly intake: Intake;
  readonly devices: Devices;
  readonly incoming: IncomingPackets;
  readonly aedes: Pick<FieldAedes, 'concerns' | 'publishFirst'>;
  readonly connectionOf: (client: Client) => Connection | undefined;
  readonly refuse: (reason: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** Why a client may not publish on a topic, as a stable word. */
export function publishFault(
  intake: Intake,
  principal: Principal | undefined,
  { topic, payload }: { readonly topic: string; readonly payload?: string | Uint8Array },
): string | undefined {
  if (topic.startsWith('$')) return 'reserved_topic';
  // A will that a crash left: its client was asked when it connected.
  if (principal === undefined || principal.everyDevice) return undefined;
  // A device that commands itself tells nobody else: firmware does, to reset what is retained there or for its own buttons.
  const commanded = intake.commanded(topic, payload?.length === 0);
  if (!commanded.every((device) => device !== undefined && principal.mayCommand(device))) return 'command_topic';
  const owner = intake.owner(topic);
  return owner === undefined || principal.mayPublishAs(owner.device) ? undefined : 'not_its_device';
}

export class Publishing {
  readonly #options: PublishingOptions;

  constructor(options: PublishingOptions) {
    this.#options = options;
  }

  /** Judges and stores a publish, then answers it: with an error the library ends the connection. */
  take(client: Client | null, packet: PublishPacket, answer: Done): void {
    const { qos, messageId, topic } = packet;
    const fault = publishFault(this.#options.intake, this.#connectionOf(client)?.principal, packet);
    // A will has no identifier, and nobody waits for its answer.
    const isAnswered = client !== null && qos > 0 && messageId !== undefined && fault === undefined;
    if (!isAnswered) {
      if (fault === undefined) this.#keepPublish(client, packet, answer);
      else this.#refusePublish(fault, { client: client?.id, topic }, answer);
      return;
    }
    const noted = qos === 2 ? this.#options.incoming.begin(client.id, messageId) : 'new';
    if (noted === 'too_many') {
      this.#refusePublish('too_many_unreleased', { client: client.id }, answer);
      return;
    }
    const inOrder = this.#connectionOf(client)?.answers.begin();
    const done: Done = (error) => {
      if (qos === 2 && error) this.#options.incoming.end(client.id, messageId);
      else if (qos === 2) this.#options.incoming.stored(client.id, messageId);
      if (inOrder === undefined) answer(error);
      else inOrder(() => answer(error));
    };
    if (noted === 'known') done(null);
    else this.#keepPublish(client, packet, done);
  }

  /** A client that is back need not say again who is there: bridges leave that retained, and say it once. */
  recall(client: Client, kept: Iterable<Publish>): void {
    const { intake } = this.#options;
    for (const publish of kept) {
      if (publishFault(intake, this.#connectionOf(client)?.principal, publish) === undefined)
        intake.recall(publish, client);
    }
  }

  #refusePublish(reason: string, fields: Readonly<Record<string, unknown>>, answer: Done): void {
    this.#options.refuse(reason, fields);
    answer(new Refusal('told'));
  }

  /** Stores it. */
  #keepPublish(client: Client | null, packet: PublishPacket, done: Done): void {
    const { intake } = this.#options;
    const pass = (): void => {
      // What QoS 1 and 2 promise includes what is kept for others: all of it comes before the answer.
      if (packet.qos > 0 && client !== null && this.#options.aedes.concerns(packet)) {
        this.#options.aedes.publishFirst(packet, client, done);
      } else done(null);
    };
    // What comes on this topic from now on needs not be asked again, but for commands, where the payload counts as well.
    if (client !== null && intake.owner(packet.topic) !== undefined && intake.commanded(packet.topic).length === 0) {
      this.#connectionOf(client)?.lane?.learn(packet.topic);
    }
    const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload;
    const stored = this.takeIn({ topic: packet.topic, payload, isAwaited: packet.qos > 0 }, client);
    if (stored === undefined) pass();
    else stored.then(pass, (error: unknown) => this.#notStored({ client, packet, error, done, pass }));
  }

  /** Hands a publish to the intake; undefined when there is nothing to wait for. */
  takeIn(publish: Omit<Delivery, 'replayed'>, client: Client | null): Promise<void> | undefined {
    const { intake, devices } = this.#options;
    const stored = intake.take({ ...publish, replayed: false }, client ?? undefined);
    // What is read of a connection after its end keeps no device online.
    if (client?.closed === true) devices.leave(client, 'disconnected');
    return stored;
  }

  #notStored(failed: {
    readonly client: Client | null;
    readonly packet: PublishPacket;
    readonly error: unknown;
    readonly done: Done;
    readonly pass: () => void;
  }): void {
    const { client, packet, error, done, pass } = failed;
    this.tellNotStored(client, packet.topic, error);
    // Nothing is promised for QoS 0: the message is lost, and counted.
    if (packet.qos === 0) {
      pass();
      return;
    }
    // No acknowledgement: the connection ends and the client sends it again.
    this.#options.clock.after(NOT_STORED_PAUSE_MS, () => done(new Refusal('told')));
  }

  /** A refusal was told where it was made. */
  tellNotStored(client: Client | null, topic: string, error: unknown): void {
    if (!(error instanceof Refusal)) this.#options.refuse(refusalReason(error), { client: client?.id, topic });
  }

  /** Undefined for what no client publishes: a will that a crash left. */
  #connectionOf(client: Client | null): Connection | undefined {
    return client === null ? undefined : this.#options.connectionOf(client);
  }
}
