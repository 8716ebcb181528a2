// One device or module that was let in: what its packets mean for the hub
// (contract/device-mqtt.md, sections 4 to 8). What the hub sends to it is in deliveries.ts.

import {
  bagProperties,
  faultRequest,
  iotHubErrorName,
  iotHubErrorOf,
  LIMITS,
  parsePublishTopic,
  plainErrorBody,
  pubackPackets,
  randomUuid,
  subackPacket,
  twinResponseTopic,
  unsubackPacket,
  type ClientConnect,
  type ClientPacket,
  type ClientPublish,
  type FaultRequest,
  type HeadContext,
  type IdentityRef,
  type IotHubFault,
  type MqttServerPackets,
  type Principal,
  type PublishTopic,
  type SessionId,
  type TelemetryMessage,
  type ToSession,
} from '#sdk';
import { Acknowledgements } from './acknowledgements.ts';
import { Deliveries } from './deliveries.ts';
import { Refused } from './refused.ts';
import type { LeftIds } from './sent-commands.ts';
import { Subscriptions } from './subscriptions.ts';
import { TelemetryLane } from './telemetry-lane.ts';

/** Commands that a client may hold unacknowledged. */
const COMMAND_WINDOW = 16;
/** What a request for a twin costs of a client's room: its answer has up to twice 32 KB. */
const TWIN_BYTES = 16 * 1024;
/** Over MQTT the service knows these two; what is for AMQP has no effect. */
const FAULTS: ReadonlySet<string> = new Set(['KillTcp', 'ShutDownMqtt']);
const EMPTY = Buffer.alloc(0);

export interface DeviceSessionOptions {
  readonly context: HeadContext;
  readonly packets: MqttServerPackets;
  readonly sessionId: SessionId;
  readonly principal: Principal;
  readonly ref: IdentityRef;
  readonly modelId: string | undefined;
  /** CleanSession 0. */
  readonly persistent: boolean;
  readonly kept: unknown;
  /** Of an earlier connection. */
  readonly leftIds: LeftIds | undefined;
  readonly write: (bytes: Buffer) => void;
  /** There is room for more of the client's packets. */
  readonly moved: () => void;
  /** A message was not stored. */
  readonly failed: (fault: IotHubFault, isEnd: boolean) => void;
  readonly injectFault: (asked: FaultRequest) => void;
}

export class DeviceSession {
  readonly #options: DeviceSessionOptions;
  readonly #subscriptions: Subscriptions;
  readonly #acknowledgements: Acknowledgements;
  readonly #lane: TelemetryLane;
  readonly #deliveries: Deliveries;
  readonly #injectsFaults: boolean;
  #granted = false;

  constructor(options: DeviceSessionOptions) {
    this.#options = options;
    const { context, principal, ref, write, moved, failed } = options;
    this.#subscriptions = new Subscriptions(ref);
    if (options.persistent) this.#subscriptions.restore(options.kept);
    this.#deliveries = new Deliveries({ ...options, subscriptions: this.#subscriptions });
    this.#acknowledgements = new Acknowledgements((ids) => write(pubackPackets(ids)));
    this.#lane = new TelemetryLane({
      telemetry: context.hub.telemetry,
      principal,
      ref,
      acknowledgements: this.#acknowledgements,
      failed,
      moved,
    });
    this.#injectsFaults = context.hub.hubs.some((hub) => hub.hubId === principal.hubId && hub.faultInjection);
  }

  get sessionId(): SessionId {
    return this.#options.sessionId;
  }

  /** Nothing more may be read from the client for now. */
  get isFull(): boolean {
    return this.#acknowledgements.bytes >= LIMITS.hub_client_unstored_bytes;
  }

  /** Nothing waits to be stored. */
  get isIdle(): boolean {
    return this.#acknowledgements.bytes === 0;
  }

  get leftIds(): LeftIds {
    return this.#deliveries.leftIds;
  }

  /** After CONNACK: what was subscribed before is delivered from now on. */
  begin(): void {
    const { kept, persistent } = this.#options;
    // So that the next connection finds a session, whatever is subscribed until then; nobody was promised this write.
    if (persistent && kept === undefined) void this.#keep().catch(() => {});
    this.#tellInterests();
  }

  /**
   * One packet of the client. A promise: the next one has to wait for it.
   * @throws Refused for what ends the connection.
   */
  handle(packet: ClientPacket): Promise<void> | undefined {
    if (packet.cmd === 'publish') {
      this.#publish(packet);
      return undefined;
    }
    if (packet.cmd === 'puback') {
      this.#deliveries.acknowledged(packet.messageId ?? 0);
      return undefined;
    }
    if (packet.cmd === 'subscribe') return this.#subscribe(packet.messageId ?? 0, packet.subscriptions);
    if (packet.cmd === 'unsubscribe') return this.#unsubscribe(packet.messageId ?? 0, packet.unsubscriptions);
    throw new Refused(packet.cmd === 'connect' ? 'second_connect' : 'unexpected_packet');
  }

  /** At the end of what was read at once. */
  flush(): void {
    this.#lane.flush();
  }

  // From the client

  #publish(packet: ClientPublish): void {
    const { topic, qos } = packet;
    if (qos === 2) throw new Refused('qos_2');
    // MQTT 3.1.1, 3.3.2-2 and 1.5.3-2.
    const parsed = /[+#\0]/.test(topic) ? undefined : parsePublishTopic(topic);
    if (parsed === undefined) throw new Refused('bad_topic');
    if (parsed.kind === 'telemetry') {
      this.#telemetry(parsed, packet);
      return;
    }
    this.#lane.flush();
    void this.#request(parsed, packet);
  }

  #telemetry(topic: Extract<PublishTopic, { kind: 'telemetry' }>, packet: ClientPublish): void {
    const { ref, modelId } = this.#options;
    const message = messageOf(topic, packet, ref, modelId);
    const asked = this.#injectsFaults ? faultRequest(message.properties) : undefined;
    if (asked === undefined || !FAULTS.has(asked.type)) {
      this.#lane.add(message, packet.messageId, packet.packetBytes);
      return;
    }
    this.#lane.flush();
    this.#acknowledgements.done(this.#acknowledgements.begin([packet.messageId], 0));
    this.#options.injectFault(asked);
  }

  /** Never rejects. */
  async #request(topic: Exclude<PublishTopic, { kind: 'telemetry' }>, packet: ClientPublish): Promise<void> {
    const { context, principal, ref, sessionId, moved } = this.#options;
    const { payload, messageId } = packet;
    const { twins, methods } = context.hub;
    const place = this.#acknowledgements.begin([messageId], packet.packetBytes + TWIN_BYTES);
    if (topic.kind === 'method-answer') {
      methods.answer(sessionId, topic.requestId, { status: topic.status, payload });
    } else {
      const { requestId } = topic;
      try {
        if (topic.kind === 'twin-get') {
          this.#answerTwin(twinResponseTopic(200, requestId), await twins.own(principal.hubId, ref));
        } else {
          const version = await twins.report(principal.hubId, ref, payload, topic.baseVersion);
          this.#answerTwin(twinResponseTopic(204, requestId, version), EMPTY);
        }
      } catch (error) {
        const fault = iotHubErrorOf(error);
        const body = plainErrorBody(fault, randomUuid().replaceAll('-', ''), context.clock.wallMs());
        this.#answerTwin(twinResponseTopic(fault.httpStatus, requestId), Buffer.from(body));
      }
    }
    // An error is an answer as well: QoS 1 promises no more than that the request was taken.
    this.#acknowledgements.done(place);
    moved();
  }

  #answerTwin(topic: string, payload: Uint8Array): void {
    if (this.#subscriptions.qosOf('twin-responses') !== undefined) this.#deliveries.send({ topic, payload });
  }

  async #subscribe(messageId: number, wanted: readonly { topic: string; qos: number }[]): Promise<void> {
    const before = JSON.stringify(this.#subscriptions.kept);
    const granted = wanted.map(({ topic, qos }) => this.#subscriptions.add(topic, qos));
    await this.#keepChanges(before);
    this.#options.write(subackPacket(messageId, granted));
    this.#tellInterests();
  }

  async #unsubscribe(messageId: number, filters: readonly string[]): Promise<void> {
    const before = JSON.stringify(this.#subscriptions.kept);
    for (const filter of filters) this.#subscriptions.remove(filter);
    this.#tellInterests();
    await this.#keepChanges(before);
    this.#options.write(unsubackPacket(messageId));
  }

  /** @throws Refused when the store is away: without an answer the client comes again. */
  async #keepChanges(before: string): Promise<void> {
    if (!this.#options.persistent || JSON.stringify(this.#subscriptions.kept) === before) return;
    try {
      await this.#keep();
    } catch (error) {
      throw new Refused(iotHubErrorName(error) ?? 'not_kept');
    }
  }

  #keep(): Promise<void> {
    const { context, sessionId } = this.#options;
    return context.hub.sessions.keep(sessionId, this.#subscriptions.kept);
  }

  #tellInterests(): void {
    const { interests } = this.#subscriptions;
    const { context, sessionId } = this.#options;
    context.hub.sessions.setInterests(sessionId, interests);
    if (this.#granted || !interests.includes('commands')) return;
    this.#granted = true;
    context.hub.sessions.grantCommands(sessionId, COMMAND_WINDOW);
  }

  deliver(item: Exclude<ToSession, { kind: 'end' }>): void {
    this.#deliveries.deliver(item);
  }
}

/** A client's will, to be sent in its name. @throws Refused for another topic than that of its own telemetry. */
export function willOf(
  will: NonNullable<ClientConnect['will']>,
  ref: IdentityRef,
  modelId: string | undefined,
): TelemetryMessage {
  const parsed = parsePublishTopic(will.topic);
  if (parsed?.kind !== 'telemetry') throw new Refused('bad_will');
  const message = messageOf(parsed, will, ref, modelId);
  return { ...message, properties: { ...message.properties, 'iothub-MessageType': 'Will' } };
}

/** @throws Refused for another one's topic. */
function messageOf(
  { from, bag }: Extract<PublishTopic, { kind: 'telemetry' }>,
  { payload, retain }: Pick<NonNullable<ClientConnect['will']>, 'payload' | 'retain'>,
  ref: IdentityRef,
  modelId: string | undefined,
): TelemetryMessage {
  if (from.deviceId !== ref.deviceId || from.moduleId !== ref.moduleId) throw new Refused('foreign_topic');
  const found = bagProperties(bag);
  return {
    body: typeof payload === 'string' ? Buffer.from(payload) : payload,
    ...found,
    // Nothing is retained; the service says so by this name.
    ...(retain === true && { properties: { ...found.properties, 'mqtt-retain': 'true' } }),
    ...(modelId !== undefined && { modelId }),
  };
}
