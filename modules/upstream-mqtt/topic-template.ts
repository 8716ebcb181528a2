// Topic names from templates such as `fieldpost/{gateway_id}/{device_id}/telemetry`.

import { LIMITS, type DeviceId } from '#sdk';

/** `id` is a command's. */
type Placeholder = 'gateway_id' | 'device_id' | 'command' | 'id';
const PLACEHOLDERS: readonly Placeholder[] = ['gateway_id', 'device_id'];

/** MQTT 1.5.3: a UTF-8 string has at most this many bytes. */
const TOPIC_MAX_BYTES = 65_535;
/** An id has at most this many characters, all ASCII. */
const ID_MAX_BYTES = 128;
const PLACEHOLDER_PATTERN = /\{([^{}]*)\}/g;

/** What is wrong with a template, as a sentence part for a configuration fault; undefined when nothing is. */
export function topicTemplateFault(
  template: string,
  allowed: readonly Placeholder[] = PLACEHOLDERS,
): string | undefined {
  for (const [whole, name] of template.matchAll(PLACEHOLDER_PATTERN)) {
    if (!allowed.some((placeholder) => placeholder === name)) {
      return `unknown placeholder ${whole}; allowed: ${allowed.map((placeholder) => `{${placeholder}}`).join(', ')}`;
    }
  }
  const fixed = template.replaceAll(PLACEHOLDER_PATTERN, '');
  if (/[{}]/.test(fixed)) return 'a brace stands alone; placeholders look like {device_id}';
  // MQTT 4.7.1: wildcards are for subscriptions; 1.5.3: no NUL.
  if (/[+#]/.test(fixed)) return 'a topic to publish to must not hold the wildcards + and #';
  if (fixed.includes('\0')) return 'a topic must not hold a NUL character';
  if (template === '') return 'a topic must have at least one character';
  const bytes = Buffer.byteLength(fixed) + [...template.matchAll(PLACEHOLDER_PATTERN)].length * ID_MAX_BYTES;
  if (bytes > TOPIC_MAX_BYTES) return `a topic has at most ${TOPIC_MAX_BYTES} bytes`;
  return undefined;
}

/** Fills a template that has no fault. An id holds no character with a meaning in topics, so the result is a topic. */
export function fillTopic(
  template: string,
  ids: { readonly gatewayId: DeviceId; readonly deviceId?: string; readonly command?: string; readonly id?: string },
): string {
  const texts: Readonly<Record<string, string | undefined>> = {
    gateway_id: ids.gatewayId,
    device_id: ids.deviceId,
    command: ids.command,
    id: ids.id,
  };
  return template.replaceAll(PLACEHOLDER_PATTERN, (_whole, name: string) => texts[name] ?? '');
}

/** The topic of each device, made once. */
export function createTopicCache(template: string, gatewayId: DeviceId): (deviceId: DeviceId) => string {
  const topics = new Map<DeviceId, string>();
  return (deviceId) => {
    let topic = topics.get(deviceId);
    if (topic === undefined) {
      if (topics.size >= LIMITS.devices) topics.clear();
      topic = fillTopic(template, { gatewayId, deviceId });
      topics.set(deviceId, topic);
    }
    return topic;
  };
}
