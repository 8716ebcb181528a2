// The AMQP upstream transport: one connection at a time, made when told, never by itself.

import {
  amqpConditions,
  type AmqpClient,
  AmqpPublisher,
  type AmqpSasl,
  brokerAddress,
  brokerTls,
  type CommandReceiver,
  connectAmqp,
  dial,
  dialTls,
  encodeAmqpMessage,
  type EndpointClosed,
  type EndpointContext,
  type IncomingCommand,
  type OutgoingAnswer,
  probeDial,
  httpProxyAddress,
  type UpstreamCapabilities,
  type UpstreamTransport,
  UPSTREAM_ENDPOINT,
} from '#sdk';
import { fillAddress, hasDevice } from './address-template.ts';
import { CommandLink } from './command-link.ts';
import { type AmqpUpstreamConfig, saslMechanism } from './config.ts';
import { encodeMessage } from './outgoing-message.ts';

/** Messages that go well into one `send`: enough to share a write to the socket, few enough to refill the window early. */
const BATCH_MESSAGES = 64;
const conditions = amqpConditions({ peer: 'broker' });
const NEVER_OPENED: EndpointClosed = { kind: 'transient', reason: 'There is no connection.' };

interface Opened {
  readonly client: AmqpClient;
  readonly publisher: AmqpPublisher;
  readonly commands: CommandLink | undefined;
  readonly closed: Promise<EndpointClosed>;
}

export function createAmqpTransport(config: AmqpUpstreamConfig, context: EndpointContext): UpstreamTransport {
  const { clock, endpointName, gatewayId, log } = context;
  const address = brokerAddress(config.url);
  const { target } = address;
  const isUpstream = endpointName === UPSTREAM_ENDPOINT;
  const commandAddress =
    isUpstream && config.command_address !== undefined ? fillAddress(config.command_address, gatewayId) : undefined;
  const onlyAddress = hasDevice(config.address) ? undefined : fillAddress(config.address, gatewayId);
  let receiver: CommandReceiver | undefined;
  let opened: Opened | undefined;

  const dialOptions = (signal: AbortSignal): Parameters<typeof dial>[0] => ({
    host: address.host,
    port: address.port,
    ...(config.proxy !== undefined && { proxy: httpProxyAddress(config.proxy) }),
    timeoutMs: config.connect_timeout_ms,
    signal,
  });

  const adopt = (client: AmqpClient): Opened => {
    const publisher = new AmqpPublisher({
      client,
      window: config.window,
      ackTimeoutMs: config.ack_timeout_ms,
      openTimeoutMs: config.connect_timeout_ms,
      linkIdleMs: config.link_idle_secs * 1000,
      onlyAddress,
      addressOf: ({ message }) => onlyAddress ?? fillAddress(config.address, gatewayId, message.deviceId),
      conditions,
      encode: encodeMessage,
      onRefused: (to, reason) => log.warn({ address: to, reason }, 'An address takes nothing; it is tried again.'),
      clock,
    });
    const commands =
      commandAddress === undefined || receiver === undefined
        ? undefined
        : new CommandLink({
            client,
            address: commandAddress,
            needsExpiry: config.command_expiry === 'required',
            receiver,
            clock,
          });
    const closed = client.closed.then(({ error, reason }): EndpointClosed =>
      error === undefined ? { kind: 'transient', reason } : conditions.closedReason(error, target),
    );
    // Registered when the end has come, hence called after everybody who has waited for it until then.
    void client.closed
      .then(() => closed)
      .then(() =>
        closed.then(() => {
          commands?.end();
          publisher.end();
        }),
      );
    return { client, publisher, commands, closed };
  };

  /** The command is settled once its answer is out, or cannot be: with the connection gone the broker gives it again. */
  const answer = async (command: IncomingCommand, { body }: OutgoingAnswer): Promise<boolean> => {
    const current = opened;
    const taken = command.token === undefined ? undefined : current?.commands?.take(command.token);
    if (current === undefined || taken === undefined) return false;
    const { accept, correlationId, replyTo } = taken;
    if (replyTo === undefined) {
      accept();
      return true;
    }
    const properties = { to: replyTo, correlationId, contentType: 'application/json' };
    const result = await current.publisher.notify(replyTo, encodeAmqpMessage({ properties, data: body }));
    accept();
    return result.status === 'accepted';
  };

  return {
    target,
    get capabilities(): UpstreamCapabilities {
      return {
        negativeAcknowledgement: true,
        window: config.window,
        batchMessages: BATCH_MESSAGES,
        // A plain broker has no conventions for these.
        multiplexesIdentities: false,
        twins: false,
        methods: false,
        commands: commandAddress !== undefined,
      };
    },
    get waiting() {
      return opened?.publisher.stuck;
    },
    get impaired() {
      return opened?.commands?.fault;
    },
    get isSilent() {
      return opened?.publisher.isSilent;
    },
    probe: (signal) => probeDial(dialOptions(signal)),
    open: async (signal) => {
      const options = dialOptions(signal);
      const socket = await (address.secure ? dialTls({ ...options, tls: brokerTls(config) }) : dial(options));
      const client = await connectAmqp({
        socket,
        ...(address.webSocket !== undefined && { webSocket: address.webSocket }),
        target,
        containerId: config.container_id ?? (isUpstream ? gatewayId : `${gatewayId}-${endpointName}`),
        hostName: config.host_name ?? address.host,
        sasl: saslOf(config),
        idleTimeoutMs: config.idle_timeout_secs * 1000,
        timeoutMs: config.connect_timeout_ms,
        signal,
        clock,
        refused: (error) => conditions.refusedError(error, target),
      });
      opened = adopt(client);
    },
    ...(commandAddress !== undefined && {
      receiveCommands: (given: CommandReceiver) => {
        receiver = given;
      },
      answer,
    }),
    closed: () => opened?.closed ?? Promise.resolve(NEVER_OPENED),
    send: (batch, signal) =>
      opened?.publisher.send(batch, signal) ??
      Promise.resolve(batch.map(() => ({ status: 'retry' as const, ...NEVER_OPENED }))),
    close: async () => {
      await opened?.client.end();
    },
    cut: (reason) => opened?.client.destroy(reason),
  };
}

function saslOf(config: AmqpUpstreamConfig): AmqpSasl {
  switch (saslMechanism(config)) {
    case 'plain':
      return { mechanism: 'PLAIN', username: config.username ?? '', password: config.password ?? '' };
    case 'external':
      return { mechanism: 'EXTERNAL' };
    case 'anonymous':
      return { mechanism: 'ANONYMOUS' };
    case 'none':
      return { mechanism: 'NONE' };
  }
}
