// What comes in, from a client of the broker or from another broker: understood by the first dialect that knows the
// topic, admitted, stored. Resolves when all of it is stored; only then may the sender be told.

import {
  isGatewayError,
  LIMITS,
  type AdapterContext,
  type Clock,
  type DeviceId,
  type Message,
  type PointInfo,
  type PointValue,
  type Reading,
  type ReadingBatch,
  type Timestamp,
} from '#sdk';
import type { Carrier, Device, Devices, Refused } from './devices.ts';
import type { Arrival, Dialect, Publish, Told } from './dialect.ts';
import { createMessageBatch } from './message-batch.ts';
import { isPointName } from './presets/point-table.ts';
import { Refusal } from './refusal.ts';
import { rememberTopics } from './topic-template.ts';

const NO_PROPERTIES = Object.freeze({});
const NO_POINTS: readonly PointInfo[] = [];
/** How far the clock of a device may be ahead of ours, and its latest time where ours is not known: the year 2100. */
const AHEAD_MS = 24 * 3_600_000;
const LATEST_MS = Date.UTC(2100, 0);

/** Hears of values and answers, to confirm writes. */
export interface Witness {
  reading(deviceId: string, point: string, value: PointValue | undefined): void;
  answer(deviceId: string, text: string): void;
}

export interface IntakeOptions {
  readonly context: AdapterContext;
  readonly dialects: readonly Dialect[];
  readonly devices: Devices;
  readonly witness: Witness;
  /** Asks devices for something; never waits. */
  readonly ask: (publish: Publish) => void;
  /** Points of devices that the configuration describes. */
  readonly configuredPoints: readonly PointInfo[];
}

/** A publish with what its sender is promised. */
export interface Delivery extends Arrival {
  /** Whether its sender waits for an acknowledgement (QoS 1 and 2). */
  readonly isAwaited: boolean;
}

export interface Intake {
  /** The dialect that a topic belongs to, with the device that its publisher speaks for. */
  owner(topic: string): { readonly dialect: Dialect; readonly device: string } | undefined;
  /** The devices that a publish commands, one for each dialect that takes it for a command; undefined in it: all there are. */
  commanded(topic: string, isEmpty?: boolean): readonly (string | undefined)[];
  /**
   * Undefined when there is nothing to wait for.
   * @throws Refusal when it is refused for good (in the promise as well), GatewayError when it could not be stored.
   */
  take(delivery: Delivery, carrier: Carrier | undefined): Promise<void> | undefined;
  /**
   * Learns from what is retained: points and facts, and when the client that left it is back also who is there. Old values
   * are no readings.
   */
  recall(kept: Publish, carrier?: Carrier): void;
}

export function createIntake(options: IntakeOptions): Intake {
  const { context, dialects, devices, witness } = options;
  const store = createMessageBatch((messages) => context.publishMessages(messages));

  const receivedAt = timeOfTurn(context.clock);

  const ownerOf = rememberTopics((topic): { dialect: Dialect; device: string } | undefined => {
    for (const dialect of dialects) {
      const device = dialect.owner(topic);
      if (device !== undefined) return { dialect, device };
    }
    return undefined;
  });

  /** The device that something is told of; a reason where it cannot be admitted, which was counted. */
  const admitTold = (told: Told, topic: string, dialect: Dialect): Device | Refused => {
    const points = told.points ?? (dialect.name === 'topics' ? options.configuredPoints : NO_POINTS);
    const device = devices.admit(told.device, dialect, points);
    if (typeof device === 'string') {
      context.reportRefusal(device, { topic, device: told.device });
      return device;
    }
    if (told.fault !== undefined) {
      context.reportRefusal(told.fault, { topic, device: told.device });
      context.reportExchange({ deviceId: device.deviceId, operation: 'publish', durationMs: 0, outcome: told.fault });
    }
    return device;
  };

  /** What is told of one device: admitted, heard, stored. */
  const takeTold = (
    told: Told,
    arrival: Delivery,
    dialect: Dialect,
    carrier: Carrier | undefined,
  ): Promise<void> | undefined => {
    const device = admitTold(told, arrival.topic, dialect);
    if (typeof device === 'string') return Promise.reject(new Refusal(device));
    devices.hear(device, told, carrier);
    if (told.answer !== undefined) witness.answer(device.deviceId, told.answer);
    const forwarded =
      told.forward === undefined ? undefined : store(message(device, arrival, told.forward.contentType));
    if (told.readings === undefined || told.readings.length === 0) return forwarded;
    const stored = storeReadings(device, told, arrival.isAwaited);
    return forwarded === undefined ? stored : settle([forwarded, stored]);
  };

  const message = (device: Device, { payload }: Arrival, contentType: string | undefined): Message => ({
    deviceId: device.deviceId,
    body: payload,
    properties: NO_PROPERTIES,
    systemProperties: contentType === undefined ? NO_PROPERTIES : { contentType },
    time: receivedAt(),
  });

  /** The time that the device says, unless it cannot be: by its own clock, so whatever ours is found to be corrects nothing. */
  const measuredAt = (deviceId: DeviceId, wallMs: number | undefined): Timestamp => {
    const now = context.clock.now();
    if (wallMs === undefined) return now;
    if (wallMs <= (now.clock === 'synced' ? now.wallMs + AHEAD_MS : LATEST_MS))
      return { ...now, wallMs, clock: 'synced' };
    context.reportRefusal('bad_time', { device: deviceId });
    return now;
  };

  /** Without those of names too long to be kept, which are counted. */
  const namedReadings = (deviceId: DeviceId, readings: readonly Reading[]): readonly Reading[] => {
    if (readings.every(({ point }) => isPointName(point))) return readings;
    context.reportRefusal('point_name_too_long', { device: deviceId });
    return readings.filter(({ point }) => isPointName(point));
  };

  const storeReadings = async (
    device: Device,
    { readings = [], wallMs, isHistorical }: Told,
    isAwaited: boolean,
  ): Promise<void> => {
    const named = namedReadings(device.deviceId, readings);
    if (named.length === 0) return;
    const batch: ReadingBatch = {
      deviceId: device.deviceId,
      time: measuredAt(device.deviceId, wallMs),
      readings: named.slice(0, LIMITS.mqtt_device_points),
      ...(isHistorical === true && { isHistorical }),
    };
    // What nobody waits for may be packed; in a pack the time of arrival would stand in for one that the device told.
    if (isAwaited || wallMs !== undefined) await context.storeReadings(batch);
    else context.publishReadings(batch);
    // What was true once confirms no write.
    if (isHistorical === true) return;
    for (const { point, value } of batch.readings) witness.reading(device.deviceId, point, value);
  };

  return {
    owner: ownerOf,
    commanded: (topic, isEmpty) =>
      dialects.filter((dialect) => dialect.isCommand(topic, isEmpty)).map((dialect) => dialect.owner(topic)),
    take(arrival, carrier) {
      const owner = ownerOf(arrival.topic);
      if (owner === undefined) return undefined;
      const understood = owner.dialect.understand(arrival);
      if (understood === undefined) return undefined;
      if (understood.ask !== undefined) for (const publish of understood.ask) options.ask(publish);
      const { told } = understood;
      const [only] = told;
      if (only !== undefined && told.length === 1) return takeTold(only, arrival, owner.dialect, carrier);
      const waits = told.flatMap((one) => takeTold(one, arrival, owner.dialect, carrier) ?? []);
      return waits.length <= 1 ? waits[0] : settle(waits);
    },
    recall({ topic, payload }, carrier) {
      const dialect = ownerOf(topic)?.dialect;
      const told = dialect?.understand({ topic, payload, replayed: true })?.told ?? [];
      if (dialect === undefined) return;
      for (const one of told) {
        const device = admitTold(one, topic, dialect);
        if (typeof device === 'string') continue;
        if (carrier === undefined) devices.learn(device, one);
        else devices.hear(device, one, carrier);
      }
    },
  };
}

/** The time, once for all that comes in during one turn of the event loop: it was read from the socket together. */
function timeOfTurn(clock: Clock): () => Timestamp {
  let time: Timestamp | undefined;
  const forget = (): void => void (time = undefined);
  return () => {
    if (time === undefined) {
      time = clock.now();
      queueMicrotask(forget);
    }
    return time;
  };
}

/** All are tried; what could not be stored for now decides over what never will be. */
async function settle(waits: readonly Promise<void>[]): Promise<void> {
  const failures = (await Promise.allSettled(waits)).flatMap((result) =>
    result.status === 'rejected' ? [result.reason as unknown] : [],
  );
  const failure = failures.find((error) => !(error instanceof Refusal));
  if (failure !== undefined) throw failure as Error;
  // A bridge that tells of many devices is not refused for one of them, which was counted.
  if (failures.length > 0 && failures.length === waits.length) throw failures[0] as Error;
}

/** The stable word for a failure to store. */
export function refusalReason(error: unknown): string {
  if (error instanceof Refusal) return error.reason;
  if (isGatewayError(error, 'GW_OUTBOX_FULL')) return 'outbox_full';
  if (isGatewayError(error, 'GW_OUTBOX_BUSY')) return 'outbox_busy';
  if (isGatewayError(error, 'GW_MESSAGE_INVALID')) return 'message_invalid';
  if (isGatewayError(error)) return 'not_stored';
  return 'protocol_error';
}
