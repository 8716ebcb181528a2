// Topic templates such as `sensors/{device_id}/telemetry`, read both ways: which device a topic means, and which topic
// belongs to a device.

import { GatewayError, isTopicName, TOPIC_MAX_BYTES, TOPIC_MAX_LEVELS } from '#sdk';

/** Characters of a topic in an error. */
const TOLD_TOPIC_CHARS = 128;
const PLACEHOLDER = /\{([^{}]*)\}/g;

export interface TopicTemplate {
  readonly template: string;
  /** The subscription that covers every topic of the template. */
  readonly filter: string;
  /** The placeholders' values; undefined when the topic is not of the template. */
  match(topic: string): Readonly<Record<string, string>> | undefined;
}

/** What is wrong with a template, as a part of a sentence; undefined when nothing is. */
export function topicTemplateFault(
  template: string,
  options: { readonly allowed: readonly string[]; readonly required?: readonly string[]; readonly wildcards?: boolean },
): string | undefined {
  const { allowed, required = [], wildcards = false } = options;
  const names = [...template.matchAll(PLACEHOLDER)].map(([, name]) => name ?? '');
  const unknown = names.find((name) => !allowed.includes(name));
  if (unknown !== undefined) {
    return `unknown placeholder {${unknown}}; allowed: ${allowed.map((name) => `{${name}}`).join(', ')}`;
  }
  if (new Set(names).size !== names.length) return 'each placeholder may stand once';
  const missing = required.find((name) => !names.includes(name));
  if (missing !== undefined) return `must hold {${missing}}`;
  if (template === '') return 'must have at least one character';
  if (Buffer.byteLength(template) > TOPIC_MAX_BYTES) return `must have at most ${TOPIC_MAX_BYTES} bytes`;
  if (template.startsWith('$')) return 'must not begin with $, which is for the broker itself';
  const levels = template.split('/');
  if (levels.length > TOPIC_MAX_LEVELS) return `must have at most ${TOPIC_MAX_LEVELS} levels`;
  for (const [index, level] of levels.entries()) {
    const fixed = level.replaceAll(PLACEHOLDER, '');
    if (/[{}\0]/.test(fixed)) return 'a brace stands alone; placeholders look like {device_id}';
    // Two in one level could not be told apart.
    if ([...level.matchAll(PLACEHOLDER)].length > 1) return 'a level between slashes may hold one placeholder';
    if (!/[+#]/.test(fixed)) continue;
    if (!wildcards) return 'a topic to publish to must not hold the wildcards + and #';
    const whole = level === '+' || (level === '#' && index === levels.length - 1);
    // MQTT 3.1.1, 4.7.1.
    if (!whole) return 'a wildcard must be a whole level, and # the last one';
  }
  return undefined;
}

/** Of a template without fault. */
export function compileTopic(template: string): TopicTemplate {
  const names: string[] = [];
  const levels = template.split('/').map((level) => {
    if (level === '#') return '.*';
    if (level === '+') return '[^/]*';
    return level
      .split(PLACEHOLDER)
      .map((part, index) => {
        if (index % 2 === 0) return part.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
        names.push(part);
        return '([^/]+)';
      })
      .join('');
  });
  // `a/#` means `a` as well (MQTT 3.1.1, 4.7.1.2).
  const source = levels.join('/').replace(/\/\.\*$/, '(?:/.*)?');
  const pattern = new RegExp(`^${source}$`, 's');
  const filter = template
    .split('/')
    .map((level) => (level.includes('{') ? '+' : level))
    .join('/');
  return {
    template,
    filter,
    match(topic) {
      const found = pattern.exec(topic);
      if (found === null) return undefined;
      return Object.fromEntries(names.map((name, index) => [name, found[index + 1] ?? '']));
    },
  };
}

/** What is made of a topic is kept: topics of devices are few and come again and again. */
const KNOWN_TOPICS = 10_000;
/** Longer ones are not: strangers could fill the memory with them. */
const KNOWN_TOPIC_CHARS = 256;

/** `find` with a memory. It must give the same for the same topic always. */
export function rememberTopics<T>(find: (topic: string) => T | undefined): (topic: string) => T | undefined {
  const known = new Map<string, T | undefined>();
  return (topic) => {
    const remembered = known.get(topic);
    if (remembered !== undefined || known.has(topic)) return remembered;
    const found = find(topic);
    if (topic.length > KNOWN_TOPIC_CHARS) return found;
    if (known.size >= KNOWN_TOPICS) known.clear();
    known.set(topic, found);
    return found;
  };
}

/** Puts values into the placeholders. */
export function fillTopic(template: string, values: Readonly<Record<string, string>>): string {
  return template.replaceAll(PLACEHOLDER, (whole, name: string) => values[name] ?? whole);
}

/** Names that a device told of itself become parts of topics. @throws GatewayError GW_WRITE_REFUSED. */
export function assertTopicName(topic: string): void {
  if (isTopicName(topic)) return;
  const fault = `${JSON.stringify(topic.slice(0, TOLD_TOPIC_CHARS))} is no topic; nothing was sent.`;
  throw new GatewayError('GW_WRITE_REFUSED', fault);
}
