// The dialect of the configuration: `topics`, `availability` and `command`.

import { writeRulesOf, type PointInfo, type PointValue, type ValueKind } from '#sdk';
import type { CommandConfig, MqttConfig, TopicConfig } from './config.ts';
import type { Arrival, Dialect, Told, Understood, WritePlan } from './dialect.ts';
import {
  isObject,
  parseJson,
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
}

interface Route {
  readonly topic: TopicTemplate;
  readonly understand: (device: string, arrival: Arrival) => Told;
}

export function createConfiguredDialect(
  config: Pick<MqttConfig, 'topics' | 'availability' | 'command'>,
): Dialect & { readonly points: readonly PointInfo[] } {
  const { command } = config;
  const points = pointInfos(config.topics);
  const routes: Route[] = [
    ...(command?.response_topic === undefined ? [] : [responseRoute(command.response_topic, command.response_pointer)]),
    ...config.availability.map(availabilityRoute),
    ...config.topics.map(topicRoute),
  ];
  const commands = command === undefined ? undefined : compileTopic(command.topic);
  const routeOf = rememberTopics((topic) => {
    for (const route of routes) {
      const device = route.topic.match(topic)?.['device_id'];
      if (device !== undefined) return { device, understand: route.understand };
    }
    return undefined;
  });
  const writable = new Set(points.filter((point) => point.writable).map(({ name }) => name));
  return {
    name: 'topics',
    points,
    filters: routes.map(({ topic }) => topic.filter),
    owner: (topic) => routeOf(topic)?.device ?? commands?.match(topic)?.['device_id'],
    isCommand: (topic) => commands?.match(topic) !== undefined,
    understand(arrival): Understood | undefined {
      const route = routeOf(arrival.topic);
      return route === undefined ? undefined : { told: [route.understand(route.device, arrival)] };
    },
    planWrite: (device, point, value) =>
      command === undefined || !writable.has(point) ? undefined : planWrite(command, { device, point, value }),
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
    Object.entries(points).map(([name, { pointer, type, unit, writable, write }]) => ({
      name,
      address: `${topic}#${pointer}`,
      writable,
      ...(unit !== undefined && { unit }),
      ...(type !== 'any' && { values: VALUE_KINDS[type] }),
      writeRules: writeRulesOf({ write }),
    })),
  );
}

function topicRoute({ topic, points, content_type: contentType }: TopicConfig): Route {
  if (points === undefined) {
    const forward = contentType === undefined ? {} : { contentType };
    // What another broker kept was sent upstream when it was fresh.
    return {
      topic: compileTopic(topic),
      understand: (device, { replayed }) => (replayed ? { device } : { device, online: true, forward }),
    };
  }
  const decoded: DecodedPoint[] = Object.entries(points).map(([name, { pointer, type, unit }]) => ({
    name,
    steps: parsePointer(pointer) ?? [],
    type,
    unit,
  }));
  return {
    topic: compileTopic(topic),
    understand(device, { payload, replayed }) {
      if (replayed) return { device };
      const document = documentOf(payload, decoded);
      if (document === undefined) return { device, online: true, fault: 'payload_not_json' };
      const readings = decoded.flatMap(({ name, steps, type, unit }) => {
        const value = valueAt(document, steps);
        return value === undefined ? [] : [readingOf(name, value, type, unit)];
      });
      return { device, online: true, readings };
    },
  };
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

function responseRoute(topic: string, pointer: string): Route {
  const steps = parsePointer(pointer) ?? [];
  return {
    topic: compileTopic(topic),
    understand(device, { payload, replayed }) {
      if (replayed) return { device };
      const document = parseJson(payload) ?? parseText(payload);
      const found = valueAt(document, steps);
      const answer = pointValue(found, 'any');
      return answer === undefined ? { device, fault: 'unknown_response' } : { device, online: true, answer };
    },
  };
}

function planWrite(
  command: CommandConfig,
  { device, point, value }: { readonly device: string; readonly point: string; readonly value: PointValue },
): WritePlan {
  const payload = command.payload
    .replaceAll('{point}', () => point)
    .replaceAll('{value}', () => jsonOf(value))
    .replaceAll('{text}', () => String(value));
  const topic = fillTopic(command.topic, { device_id: device, point });
  return {
    publish: [{ topic, payload: Buffer.from(payload) }],
    confirmedBy: !command.confirm ? 'none' : command.response_topic === undefined ? 'reading' : 'answer',
    timeoutMs: command.timeout_ms,
  };
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
      return typeof fact === 'string' || typeof fact === 'number' ? [[to, String(fact).slice(0, 256)]] : [];
    }),
  );
}
