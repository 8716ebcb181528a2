// What the hub sends to one device or module, as MQTT has it (contract/device-mqtt.md, sections 6 to 8).

import {
  commandBag,
  commandTopic,
  desiredTopic,
  inputTopic,
  isoTime,
  methodTopic,
  SYSTEM_PROPERTIES,
  writePropertyBag,
  type CommandOutcome,
  type DeliveredCommand,
  type HeadContext,
  type IdentityRef,
  type MqttServerPackets,
  type Principal,
  type ServerPublish,
  type SessionId,
  type ToSession,
} from '#sdk';
import { SentCommands, type LeftIds } from './sent-commands.ts';
import type { Subscriptions } from './subscriptions.ts';

const TOPIC_MAX_BYTES = 0xffff;

export interface DeliveriesOptions {
  readonly context: HeadContext;
  readonly packets: MqttServerPackets;
  readonly sessionId: SessionId;
  readonly principal: Principal;
  readonly ref: IdentityRef;
  readonly subscriptions: Subscriptions;
  /** Of an earlier connection. */
  readonly leftIds: LeftIds | undefined;
  readonly write: (bytes: Buffer) => void;
}

export class Deliveries {
  readonly #options: DeliveriesOptions;
  readonly #sent: SentCommands;

  constructor(options: DeliveriesOptions) {
    this.#options = options;
    this.#sent = new SentCommands(options.leftIds);
  }

  get leftIds(): LeftIds {
    return this.#sent.left;
  }

  deliver(item: Exclude<ToSession, { kind: 'end' }>): void {
    const { ref } = this.#options;
    switch (item.kind) {
      case 'command':
        this.#deliverCommand(item.command);
        return;
      case 'method':
        if (this.#options.subscriptions.qosOf('methods') !== undefined) {
          this.send({ topic: methodTopic(item.name, item.requestId), payload: item.payload });
        }
        return;
      case 'desired':
        if (this.#options.subscriptions.qosOf('desired') !== undefined) {
          this.send({ topic: desiredTopic(item.version), payload: item.patch });
        }
        return;
      case 'input':
        if (ref.moduleId !== undefined && this.#options.subscriptions.qosOf('inputs') !== undefined) {
          const to = { deviceId: ref.deviceId, moduleId: ref.moduleId };
          this.send({ topic: inputTopic(to, item.input, inputBag(item)), payload: item.body });
        }
    }
  }

  #deliverCommand(command: DeliveredCommand): void {
    const { context, ref, sessionId } = this.#options;
    const { lockToken, sequenceNumber, message } = command;
    const qos = this.#options.subscriptions.qosOf('commands');
    if (qos === undefined) {
      // Unsubscribed meanwhile: its lock runs out, and it waits. It takes none of the places that the client has.
      context.hub.sessions.grantCommands(sessionId, 1);
      return;
    }
    const to = `/devices/${ref.deviceId}/messages/deviceBound`;
    const topic = commandTopic(ref, commandBag(message, to, isoTime(command.expiresAtMs)));
    if (Buffer.byteLength(topic) > TOPIC_MAX_BYTES) {
      // MQTT has no room for so many properties; a device on it can never have this one.
      context.reportRefusal('command_properties_too_long', { deviceId: ref.deviceId });
      this.#settle(lockToken, 'reject');
      return;
    }
    if (qos === 0) {
      this.send({ topic, payload: message.body });
      this.#settle(lockToken, 'complete');
      return;
    }
    const { messageId, dup, isHeld } = this.#sent.add({ sequenceNumber, lockToken });
    this.send({ topic, payload: message.body, messageId, dup });
    // Its lock ran out: it takes no second place of what the client may hold.
    if (isHeld) context.hub.sessions.grantCommands(sessionId, 1);
  }

  /** A PUBACK of the client. */
  acknowledged(messageId: number): void {
    const command = this.#sent.take(messageId);
    if (command !== undefined) this.#settle(command.lockToken, 'complete');
  }

  #settle(lockToken: string, outcome: CommandOutcome): void {
    const { context, principal, ref, sessionId } = this.#options;
    const { commands, sessions } = context.hub;
    commands
      .settle(principal.hubId, ref.deviceId, lockToken, outcome)
      // Its lock was over, or the store is away: it is delivered again.
      .catch(() => {})
      .finally(() => sessions.grantCommands(sessionId, 1));
  }

  send(packet: Pick<ServerPublish, 'topic' | 'payload'> & Partial<ServerPublish>): void {
    this.#options.write(this.#options.packets.publish({ messageId: 0, dup: false, ...packet }));
  }
}

/** Properties of a message to a module's input, and who sent it; never empty. */
function inputBag({ from, properties, systemProperties }: Extract<ToSession, { kind: 'input' }>): string {
  const system = SYSTEM_PROPERTIES.flatMap(({ field, topicKey }) => {
    const value = systemProperties[field] ?? '';
    return value === '' ? [] : [[topicKey, value] as const];
  });
  const module = from.moduleId === undefined ? [] : [['$.cmid', from.moduleId] as const];
  return writePropertyBag([['$.cdid', from.deviceId], ...module, ...system, ...Object.entries(properties)]);
}
