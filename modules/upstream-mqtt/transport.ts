// The MQTT upstream transport: one connection at a time, made when told, never by itself.

import {
  brokerAddress,
  brokerTls,
  type CommandReceiver,
  connectMqtt,
  dial,
  dialTls,
  GatewayError,
  probeDial,
  UPSTREAM_ENDPOINT,
  type EndpointClosed,
  type EndpointContext,
  errorText,
  httpProxyAddress,
  type MqttConnection,
  type MqttMessage,
  type OutgoingAnswer,
  type Outgoing,
  type IncomingCommand,
  type StoredMessage,
  type UpstreamCapabilities,
  type UpstreamTransport,
  WindowPublisher,
} from '#sdk';
import type { MqttUpstreamConfig } from './config.ts';
import { createCommandTopics } from './command-topics.ts';
import { wrapBody } from './envelope.ts';
import { propertiesFault, publishPacketBytes, publishProperties } from './properties.ts';
import { connackError, disconnectReason, pubackResult } from './reason-codes.ts';
import { createTopicCache, fillTopic } from './topic-template.ts';

/** Messages that go well into one `send`: enough to share a write to the socket, few enough to refill the window early. */
const BATCH_MESSAGES = 64;
/** Reason codes of a PUBACK from here on are refusals (MQTT 5, 3.4.2.1). */
const FAILURE = 0x80;
const NEVER_OPENED: EndpointClosed = { kind: 'transient', reason: 'There is no connection.' };

interface Opened {
  readonly connection: MqttConnection;
  readonly publisher: WindowPublisher;
  readonly closed: Promise<EndpointClosed>;
}

export function createMqttTransport(config: MqttUpstreamConfig, context: EndpointContext): UpstreamTransport {
  const { clock, gatewayId, endpointName } = context;
  const address = brokerAddress(config.url);
  const { target } = address;
  const protocolVersion = config.protocol_version === 5 ? 5 : 4;
  const topicOf = createTopicCache(config.topic, gatewayId);
  const topics = createCommandTopics(config.commands, gatewayId);
  const takesCommands = config.commands.enabled && endpointName === UPSTREAM_ENDPOINT;
  let receiver: CommandReceiver | undefined;
  let opened: Opened | undefined;
  let window = config.window;

  const dialOptions = (signal: AbortSignal): Parameters<typeof dial>[0] => ({
    host: address.host,
    port: address.port,
    ...(config.proxy !== undefined && { proxy: httpProxyAddress(config.proxy) }),
    timeoutMs: config.connect_timeout_ms,
    signal,
  });

  const encoder =
    (maximumPacketBytes: number) =>
    (stored: StoredMessage): Outgoing => {
      const topic = topicOf(stored.message.deviceId);
      const payload = config.envelope === 'json' ? wrapBody(stored) : stored.message.body;
      if (protocolVersion === 4) return { topic, payload, properties: undefined };
      const properties = publishProperties(stored);
      const fault = propertiesFault(properties);
      if (fault !== undefined) return { rejected: fault };
      const bytes = publishPacketBytes(topic, payload.byteLength, properties);
      if (bytes > maximumPacketBytes) {
        return { rejected: `The message makes a packet of ${bytes} bytes; the broker takes ${maximumPacketBytes}.` };
      }
      return { topic, payload, properties };
    };

  const adopt = (connection: MqttConnection): Opened => {
    const { limits } = connection;
    // One of what the server takes at once is kept for answers to commands (MQTT 5, 4.9), where it takes more than one.
    const quota = limits.receiveMaximum ?? Number.POSITIVE_INFINITY;
    window = Math.max(1, Math.min(config.window, quota - (takesCommands ? 1 : 0)));
    const publisher = new WindowPublisher({
      connection,
      window,
      quota,
      ackTimeoutMs: config.ack_timeout_ms,
      clock,
      resultOf: pubackResult,
      encode: encoder(limits.maximumPacketBytes ?? Number.POSITIVE_INFINITY),
    });
    const closed = connection.closed.then(({ reasonCode, reason }): EndpointClosed =>
      reasonCode === undefined ? { kind: 'transient', reason } : disconnectReason(reasonCode, target),
    );
    // Registered when the end has come, hence called after everybody who has waited for it until then.
    void connection.closed.then(() => closed).then(() => closed.then(() => publisher.end()));
    return { connection, publisher, closed };
  };

  const receive = (message: MqttMessage): void => {
    const addressed = topics.parse(message.topic);
    if (receiver === undefined || addressed === undefined) return;
    if (message.retain) {
      receiver.onIgnored('retained', { topic: message.topic });
      return;
    }
    const { responseTopic, correlationData } = message.properties ?? {};
    // MQTT 5, 3.3.2.3.5: no wildcards; a server that does not look would end the connection over the answer.
    const topic = responseTopic !== undefined && /^[^+#\0]+$/.test(responseTopic) ? responseTopic : undefined;
    const reply = { ...(topic !== undefined && { topic }), ...(correlationData !== undefined && { correlationData }) };
    receiver.onCommand({ ...addressed, payload: message.payload, reply });
  };

  /** Without the right to subscribe there are no commands; messages go on all the same. */
  const subscribe = async ({ connection }: Opened): Promise<void> => {
    try {
      const refused = await connection.subscribe([topics.filter], 1, 'fresh');
      if (refused.length > 0) receiver?.onIgnored('not_subscribed', { error: `The broker refuses ${topics.filter}.` });
    } catch (error) {
      receiver?.onIgnored('not_subscribed', { error: errorText(error) });
    }
  };

  /** Answers go one at a time. */
  let answered: Promise<unknown> = Promise.resolve();
  const publishAnswer = async (command: IncomingCommand, { id, body }: OutgoingAnswer): Promise<boolean> => {
    if (opened === undefined) return false;
    const { connection, publisher } = opened;
    const { reply, deviceId } = command;
    const correlationData = reply?.correlationData;
    const properties =
      protocolVersion === 4
        ? undefined
        : {
            contentType: 'application/json',
            ...(correlationData !== undefined && { correlationData: Buffer.from(correlationData) }),
          };
    const topic = reply?.topic ?? topics.answerTopic(deviceId, id);
    const maximumBytes = connection.limits.maximumPacketBytes ?? Number.POSITIVE_INFINITY;
    if (publishPacketBytes(topic, body.byteLength, properties) > maximumBytes) return false;
    const code = await publisher.notify(topic, body, properties);
    return code !== undefined && code < FAILURE;
  };

  return {
    target,
    get capabilities(): UpstreamCapabilities {
      return {
        negativeAcknowledgement: protocolVersion === 5,
        window,
        batchMessages: BATCH_MESSAGES,
        bodiesOnly: protocolVersion === 4 && config.envelope !== 'json',
        // Topics of a plain broker have no convention for these.
        multiplexesIdentities: false,
        twins: false,
        methods: false,
        commands: takesCommands,
      };
    },
    probe: (signal) => probeDial(dialOptions(signal)),
    open: async (signal) => {
      const options = dialOptions(signal);
      const socket = await (address.secure
        ? dialTls({
            ...options,
            tls: { ...brokerTls(config), ...(config.alpn !== undefined && { alpn: config.alpn }) },
          })
        : dial(options));
      const connection = await connectMqtt({
        socket,
        ...(address.webSocket !== undefined && { webSocket: address.webSocket }),
        host: target,
        protocolVersion,
        clientId: config.client_id ?? defaultClientId(context),
        ...(config.username !== undefined && { username: config.username }),
        ...(config.password !== undefined && { password: config.password }),
        keepAliveSecs: config.keepalive_secs,
        ...(config.will !== undefined && { will: willOf(config.will, context) }),
        timeoutMs: config.connect_timeout_ms,
        signal,
        clock,
        refused: (reasonCode) => connackError(reasonCode, target),
        onMessage: (message) => Promise.resolve(receive(message)),
      });
      if ((connection.limits.maximumQos ?? 2) < 1) {
        await connection.end();
        throw new GatewayError(
          'GW_PROTOCOL',
          `${target} takes QoS 0 only, which would lose messages; QoS 1 is needed.`,
          {
            kind: 'invalid',
          },
        );
      }
      opened = adopt(connection);
      // Nobody waits: a server that does not answer must not hold up the messages.
      if (takesCommands && receiver !== undefined) void subscribe(opened);
    },
    ...(takesCommands && {
      receiveCommands: (given: CommandReceiver) => {
        receiver = given;
      },
      answer: (command: IncomingCommand, answer: OutgoingAnswer) => {
        const sent = answered.then(() => publishAnswer(command, answer));
        answered = sent;
        return sent;
      },
    }),
    closed: () => opened?.closed ?? Promise.resolve(NEVER_OPENED),
    send: (batch, signal) =>
      opened?.publisher.send(batch, signal) ??
      Promise.resolve(batch.map(() => ({ status: 'retry' as const, ...NEVER_OPENED }))),
    close: async () => {
      await opened?.connection.end();
    },
    cut: (reason) => opened?.connection.destroy(reason),
  };
}

function defaultClientId({ endpointName, gatewayId }: EndpointContext): string {
  return endpointName === UPSTREAM_ENDPOINT ? gatewayId : `${gatewayId}-${endpointName}`;
}

function willOf(
  will: NonNullable<MqttUpstreamConfig['will']>,
  { gatewayId }: EndpointContext,
): { topic: string; payload: Uint8Array; qos: 0 | 1; retain: boolean } {
  return {
    topic: fillTopic(will.topic, { gatewayId }),
    payload: Buffer.from(will.payload),
    qos: will.qos,
    retain: will.retain,
  };
}
