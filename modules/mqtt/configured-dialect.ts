// The dialect of the configuration: `topics`, `availability` and `command`.

import {
  compilePattern,
  GatewayError,
  scaled,
  unscaled,
  writeRulesOf,
  type PointInfo,
  type PointValue,
  type Reading,
  type ValueKind,
} from '#sdk';
import { type CommandConfig, JUDGED_CHARS, type MqttConfig, type PointConfig, type TopicConfig } from './config.ts';
import {
  quoted,
  type Arrival,
  type Dialect,
  type Told,
  type Understood,
  type Verdict,
  type WritePlan,
} from './dialect.ts';
import {
  isObject,
  parseJson,
  parseJsonText,
  parsePointer,
  parseText,
  pointValue,
  readingOf,
  valueAt,
  type ValueType,
} from './json-value.ts';
import { compileTopic, fillTopic, rememberTopics, type TopicTemplate } from './topic-template.ts';

interface DecodedPoint {
  readonly name: string;
  readonly steps: readonly string[];
  readonly type: ValueType;
  readonly unit: string | undefined;
  /** Undefined: as it comes. */
  readonly toValue: ((raw: PointValue) => PointValue) | undefined;
}

interface Route {
  readonly topic: TopicTemplate;
  readonly understand: (device: string, arrival: Arrival) => Told;
  /** What a fresh arrival tells, where that is the same whatever the payload. */
  readonly always?: (device: string) => Told;
}

export function createConfiguredDialect(
  config: Pick<MqttConfig, 'topics' | 'availability' | 'command'>,
): Dialect & { readonly points: readonly PointInfo[] } {
  const { command } = config;
  const points = pointInfos(config.topics);
  const routes: Route[] = [
    ...(command?.response_topic === undefined ? [] : [responseRoute(command.response_topic)]),
    ...config.availability.map(availabilityRoute),
    ...config.topics.map(topicRoute),
  ];
  const commands = command === undefined ? undefined : compileTopic(command.topic);
  const confirmation = command === undefined ? undefined : confirmationOf(command);
  const routeOf = rememberTopics((topic) => {
    // What others, or we ourselves, tell a device is nothing that it says, though a wildcard covers it.
    if (commands?.match(topic) !== undefined) return 'command' as const;
    for (const route of routes) {
      const device = route.topic.match(topic)?.['device_id'];
      if (device === undefined) continue;
      const always: Understood | undefined = route.always && { told: [route.always(device)] };
      return { device, understand: route.understand, always };
    }
    return undefined;
  });
  const writable = new Map(
    config.topics.flatMap(({ points: all = {} }) => Object.entries(all).filter(([, point]) => point.writable)),
  );
  return {
    name: 'topics',
    points,
    filters: routes.map(({ topic }) => topic.filter),
    owner(topic) {
      const route = routeOf(topic);
      return route === 'command' ? commands?.match(topic)?.['device_id'] : route?.device;
    },
    isCommand: (topic) => routeOf(topic) === 'command',
    understand(arrival): Understood | undefined {
      const route = routeOf(arrival.topic);
      if (route === 'command') return { told: [] };
      if (route === undefined) return undefined;
      return (arrival.replayed ? undefined : route.always) ?? { told: [route.understand(route.device, arrival)] };
    },
    planWrite(device, point, value) {
      const config = writable.get(point);
      if (command === undefined || confirmation === undefined || config === undefined) return undefined;
      return planWrite(command, { device, point, value, config, confirmation: confirmation(config) });
    },
  };
}

const VALUE_KINDS: Readonly<Record<Exclude<ValueType, 'any'>, ValueKind>> = {
  number: { kind: 'number' },
  integer: { kind: 'integer' },
  boolean: { kind: 'boolean' },
  string: { kind: 'text' },
};

function pointInfos(topics: readonly TopicConfig[]): readonly PointInfo[] {
  return topics.flatMap(({ topic, points = {} }) =>
    Object.entries(points).map(([name, { pointer, type, unit, writable, write, ...rest }]) => ({
      name,
      address: `${topic}#${pointer}`,
      writable,
      ...(unit !== undefined && { unit }),
      ...(isScaled(rest) ? { values: VALUE_KINDS.number } : type !== 'any' && { values: VALUE_KINDS[type] }),
      writeRules: writeRulesOf({ write }),
    })),
  );
}

function isScaled({ scale, offset }: Pick<PointConfig, 'scale' | 'offset'>): boolean {
  return scale !== undefined || offset !== undefined;
}

/** Texts and booleans stay as they are. */
function toValue(config: PointConfig): ((raw: PointValue) => PointValue) | undefined {
  if (!isScaled(config)) return undefined;
  return (raw) => (typeof raw === 'number' || typeof raw === 'bigint' ? scaled(Number(raw), config) : raw);
}

function topicRoute({ topic, points, content_type: contentType }: TopicConfig): Route {
  if (points === undefined) {
    const always = (device: string): Told => ({
      device,
      online: true,
      forward: contentType === undefined ? {} : { contentType },
    });
    // What another broker kept was sent upstream when it was fresh.
    return {
      topic: compileTopic(topic),
      understand: (device, { replayed }) => (replayed ? { device } : always(device)),
      always,
    };
  }
  const decoded: DecodedPoint[] = Object.entries(points).map(([name, config]) => ({
    name,
    steps: parsePointer(config.pointer) ?? [],
    type: config.type,
    unit: config.unit,
    toValue: toValue(config),
  }));
  return {
    topic: compileTopic(topic),
    understand(device, { payload, replayed }) {
      if (replayed) return { device };
      const document = documentOf(payload, decoded);
      if (document === undefined) return { device, online: true, fault: 'payload_not_json' };
      const readings = decoded.flatMap((point) => {
        const value = valueAt(document, point.steps);
        return value === undefined ? [] : [decodedReading(point, value)];
      });
      return { device, online: true, readings };
    },
  };
}

function decodedReading({ name, type, unit, toValue }: DecodedPoint, found: unknown): Reading {
  const reading = readingOf(name, found, type, unit);
  return toValue === undefined || reading.value === undefined ? reading : { ...reading, value: toValue(reading.value) };
}

/** A payload that is one bare word is the value of a point whose pointer is empty. */
function documentOf(payload: Uint8Array, points: readonly DecodedPoint[]): unknown {
  const document = parseJson(payload);
  if (document !== undefined || !points.some(({ steps }) => steps.length === 0)) return document;
  return parseText(payload);
}

function availabilityRoute(config: MqttConfig['availability'][number]): Route {
  return {
    topic: compileTopic(config.topic),
    understand(device, { payload }) {
      const text = parseText(payload);
      if (text === config.online) return { device, online: true };
      if (text === config.offline) return { device, online: false };
      return { device, fault: 'unknown_availability' };
    },
  };
}

function responseRoute(topic: string): Route {
  return {
    topic: compileTopic(topic),
    understand(device, { payload, replayed }) {
      if (replayed) return { device };
      const answer = parseText(payload);
      return answer === undefined ? { device, fault: 'unknown_response' } : { device, online: true, answer };
    },
  };
}

type Confirmation = Pick<WritePlan, 'confirmedBy' | 'judge'>;

/** What confirms the write of a point. */
function confirmationOf(command: CommandConfig): (point: PointConfig) => Confirmation {
  if (!command.confirm) return () => ({ confirmedBy: 'none' });
  if (command.response_topic === undefined) return () => ({ confirmedBy: 'reading' });
  const steps = parsePointer(command.response_pointer) ?? [];
  const confirms = tester(command.response);
  const refuses = tester(command.refusal);
  const judge = (point: PointConfig, answer: string): Verdict => {
    if (refuses?.(answer) === true) return { reason: 'refused', said: quoted(answer) };
    if (confirms !== undefined) return confirms(answer) ? 'confirmed' : { value: undefined };
    const document = parseJsonText(answer) ?? answer;
    const value = pointValue(valueAt(document, steps), point.type);
    return { value: value === undefined ? undefined : (toValue(point)?.(value) ?? value) };
  };
  return (point) => ({ confirmedBy: 'answer', judge: (answer) => judge(point, answer) });
}

/** Whether a text has the pattern; undefined without one. */
function tester(pattern: string | undefined): ((text: string) => boolean) | undefined {
  const compiled = pattern === undefined ? undefined : compilePattern(pattern);
  // What does not compile was a fault of the configuration.
  if (compiled === undefined || typeof compiled === 'string') return undefined;
  return (text) => compiled.test(text.slice(0, JUDGED_CHARS));
}

function planWrite(
  command: CommandConfig,
  {
    device,
    point,
    value,
    config,
    confirmation,
  }: {
    readonly device: string;
    readonly point: string;
    readonly value: PointValue;
    readonly config: PointConfig;
    readonly confirmation: Confirmation;
  },
): WritePlan {
  const raw = rawValue(value, { device, point, config });
  const payload = command.payload
    .replaceAll('{point}', () => point)
    .replaceAll('{value}', () => jsonOf(raw))
    .replaceAll('{text}', () => String(raw));
  const topic = fillTopic(command.topic, { device_id: device, point });
  // As its reading will be: the device is sent "ON", and its point says true.
  const wanted = pointValue(value, isScaled(config) ? 'number' : config.type);
  return {
    publish: [{ topic, payload: Buffer.from(payload) }],
    ...confirmation,
    ...(wanted !== undefined && { wanted }),
    timeoutMs: command.timeout_ms,
  };
}

const TAKEN = { number: 'a number', integer: 'a whole number', boolean: 'true or false' } as const;

/** What the device is sent for a value; words for true and false go as they are. @throws GatewayError GW_WRITE_REFUSED. */
function rawValue(
  value: PointValue,
  { device, point, config }: { readonly device: string; readonly point: string; readonly config: PointConfig },
): PointValue {
  const { type } = config;
  const refused = (wanted: string): GatewayError =>
    new GatewayError('GW_WRITE_REFUSED', `"${point}" of "${device}" takes ${wanted}.`);
  if (!isScaled(config)) {
    const isNumeric = type === 'number' || type === 'integer';
    if (!isNumeric && type !== 'boolean') return value;
    const typed = pointValue(value, type);
    if (typed === undefined) throw refused(TAKEN[type]);
    return isNumeric ? typed : value;
  }
  const scaledValue = pointValue(value, 'number');
  if (typeof scaledValue !== 'number') throw refused(TAKEN.number);
  const raw = unscaled(scaledValue, config);
  if (type === 'integer' && !Number.isInteger(raw)) {
    throw refused(`a multiple of ${config.scale ?? 1} beside its offset`);
  }
  return raw;
}

export function jsonOf(value: PointValue): string {
  if (typeof value === 'bigint') return value.toString();
  return JSON.stringify(value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value);
}

/** Facts of an object as texts, for the identity of a device. */
export function textFacts(value: unknown, names: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  if (!isObject(value)) return {};
  return Object.fromEntries(
    Object.entries(names).flatMap(([from, to]) => {
      const fact = value[from];
      return typeof fact === 'string' || typeof fact === 'number' || typeof fact === 'bigint'
        ? [[to, String(fact).slice(0, 256)]]
        : [];
    }),
  );
}
