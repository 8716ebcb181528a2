// A back end on the unmodified SDKs: registry, twins, methods, cloud-to-device messages with feedback, and the events.

import {
  EventHubConsumerClient,
  earliestEventPosition,
  latestEventPosition,
  type EventPosition,
  type PartitionContext,
  type ReceivedEventData,
  type Subscription,
} from '@azure/event-hubs';
import deviceSdk from 'azure-iot-device';
import iotHub from 'azure-iothub';
import { WebSocket } from 'ws';
import { createCheckpointFile } from './checkpoint-file.ts';
import { errorOf, serveCalls, tell, textOf } from './calls.ts';

type SdkRegistry = InstanceType<typeof iotHub.Registry>;
type SdkClient = InstanceType<typeof iotHub.Client>;
type SdkReceiver = Extract<Awaited<ReturnType<SdkClient['getFeedbackReceiver']>>, object>['result'];
type ReceivedMessage = Parameters<SdkReceiver['complete']>[0];

/** A cloud-to-device message as a test writes it. */
export interface SentCommand {
  readonly body: string;
  readonly properties?: Readonly<Record<string, string>>;
  /** Fields of the SDK's message: `messageId`, `ack`, `expiryTimeUtc`, … */
  readonly system?: Readonly<Record<string, unknown>>;
}

/** How to read the events. */
export interface EventsRequest {
  readonly connectionString: string;
  /** Default `$Default`. */
  readonly group?: string;
  /** Default all partitions. */
  readonly partition?: string;
  /** Default earliest. */
  readonly from?: 'earliest' | 'latest' | EventPosition;
  readonly ownerLevel?: number;
  readonly webSockets?: boolean;
  /** Path of a file of checkpoints: reading goes on there, and each event that was told is noted there. */
  readonly checkpoints?: string;
}

let registry: SdkRegistry | undefined;
let client: SdkClient | undefined;
let receiver: SdkReceiver | undefined;
const batches: ReceivedMessage[] = [];
const subscriptions = new Map<
  number,
  { readonly consumer: EventHubConsumerClient; readonly subscription: Subscription }
>();
let subscribed = 0;

function openRegistry(): SdkRegistry {
  if (registry === undefined) throw new Error('The registry is not open.');
  return registry;
}

function openClient(): SdkClient {
  if (client === undefined) throw new Error('The service client is not open.');
  return client;
}

/** The SDKs answer `{ responseBody, httpResponse }` or `{ result, message }`; a test wants the first. */
function bodyOf(answer: unknown): unknown {
  if (typeof answer !== 'object' || answer === null) return answer;
  if ('responseBody' in answer) return answer.responseBody;
  return 'result' in answer ? answer.result : answer;
}

function eventOf(event: ReceivedEventData, partition: string): object {
  const { body, properties, systemProperties, sequenceNumber, offset, enqueuedTimeUtc, partitionKey } = event;
  const { contentType, correlationId, messageId } = event;
  return {
    partition,
    body: Buffer.isBuffer(body) ? body.toString() : (body as unknown),
    properties,
    systemProperties,
    sequenceNumber,
    offset,
    enqueuedTimeUtc,
    partitionKey,
    contentType,
    correlationId,
    messageId,
  };
}

function consumerOf({
  connectionString,
  group = '$Default',
  webSockets = false,
  checkpoints,
}: EventsRequest): EventHubConsumerClient {
  const options = {
    ...(webSockets && { webSocketOptions: { webSocket: WebSocket } }),
    retryOptions: { maxRetries: checkpoints === undefined ? 1 : 50, retryDelayInMs: 200, timeoutInMs: 10_000 },
    // A reader that gave up takes its partitions again once its claim to them is over: after a minute, if nobody says so.
    ...(checkpoints !== undefined && {
      loadBalancingOptions: { updateIntervalInMs: 500, partitionOwnershipExpirationIntervalInMs: 3000 },
    }),
  };
  if (checkpoints === undefined) return new EventHubConsumerClient(group, connectionString, options);
  return new EventHubConsumerClient(group, connectionString, createCheckpointFile(checkpoints), options);
}

function positionOf(from: EventsRequest['from'] = 'earliest'): EventPosition {
  if (from === 'earliest') return earliestEventPosition;
  return from === 'latest' ? latestEventPosition : from;
}

serveCalls({
  openRegistry(connectionString: string) {
    registry = iotHub.Registry.fromConnectionString(connectionString);
  },
  /** Any function of the SDK's Registry. Resolves with the answer's body. */
  async registry(name: string, ...args: readonly unknown[]) {
    const asked = openRegistry() as unknown as Record<string, (...args: readonly unknown[]) => Promise<unknown>>;
    return bodyOf(await asked[name]?.(...args));
  },
  /** All pages of a query. */
  async query(text: string, pageSize?: number) {
    const query = openRegistry().createQuery(text, pageSize);
    const found: unknown[] = [];
    do {
      const page = bodyOf(await query.next(query.continuationToken)) as readonly unknown[];
      found.push(...page);
    } while (query.hasMoreResults);
    return found;
  },
  async openClient(connectionString: string, transport: 'amqp' | 'amqp-ws' = 'amqp') {
    const opened = iotHub.Client.fromConnectionString(
      connectionString,
      transport === 'amqp' ? iotHub.Amqp : iotHub.AmqpWs,
    );
    client = opened;
    opened.on('disconnect', (reason: unknown) => tell('disconnect', reason === undefined ? null : errorOf(reason)));
    await opened.open();
  },
  /** For methods alone, which go over HTTPS. */
  useClient(connectionString: string) {
    client = iotHub.Client.fromConnectionString(connectionString);
  },
  closeClient: async () => void (await openClient().close()),
  invoke: async (deviceId: string, call: { methodName: string }) =>
    bodyOf(await openClient().invokeDeviceMethod(deviceId, call)),
  invokeModule: async (deviceId: string, moduleId: string, call: { methodName: string }) =>
    bodyOf(await openClient().invokeDeviceMethod(deviceId, moduleId, call)),
  async sendCommand(deviceId: string, { body, properties = {}, system = {} }: SentCommand) {
    const message = new deviceSdk.Message(body);
    for (const [name, value] of Object.entries(properties)) message.properties.add(name, value);
    await openClient().send(deviceId, Object.assign(message, system) as never);
  },
  /** Tells each batch as `feedback`: its records. @param settling `none`: the test settles them in order by `settleFeedback`. */
  async onFeedback(settling: 'complete' | 'none' = 'complete') {
    const opened = bodyOf(await openClient().getFeedbackReceiver()) as SdkReceiver;
    receiver = opened;
    opened.on('message', (message: ReceivedMessage) => {
      tell('feedback', JSON.parse(textOf(message)) as unknown);
      if (settling === 'none') batches.push(message);
      else opened.complete(message, (error) => (error ? tell('error', errorOf(error)) : undefined));
    });
  },
  settleFeedback(how: 'complete' | 'abandon' | 'reject') {
    const message = batches.shift();
    if (message === undefined || receiver === undefined) throw new Error('No feedback has come.');
    const settling = receiver;
    return new Promise<void>((resolve, reject) => {
      settling[how](message, (error) => (error ? reject(error) : resolve()));
    });
  },
  /** Tells each event as `event`. Resolves with a number for `stopEvents`. */
  readEvents(request: EventsRequest) {
    const consumer = consumerOf(request);
    const handlers = {
      async processEvents(events: readonly ReceivedEventData[], context: PartitionContext) {
        for (const event of events) {
          tell('event', eventOf(event, context.partitionId));
          if (request.checkpoints !== undefined) await context.updateCheckpoint(event);
        }
      },
      processError(error: Error) {
        tell('eventsError', errorOf(error));
        return Promise.resolve();
      },
    };
    const options = {
      startPosition: positionOf(request.from),
      maxWaitTimeInSeconds: 1,
      ...(request.ownerLevel !== undefined && { ownerLevel: request.ownerLevel }),
    };
    const subscription =
      request.partition === undefined
        ? consumer.subscribe(handlers, options)
        : consumer.subscribe(request.partition, handlers, options);
    subscribed += 1;
    subscriptions.set(subscribed, { consumer, subscription });
    return subscribed;
  },
  async stopEvents(number: number) {
    const found = subscriptions.get(number);
    subscriptions.delete(number);
    await found?.subscription.close();
    await found?.consumer.close();
  },
  async eventsInfo(request: EventsRequest) {
    const consumer = consumerOf(request);
    try {
      const hub = await consumer.getEventHubProperties();
      return { hub, partitions: await Promise.all(hub.partitionIds.map((id) => consumer.getPartitionProperties(id))) };
    } finally {
      await consumer.close();
    }
  },
});
