// Topics of commands and of their answers, from templates.

import type { DeviceId } from '#sdk';
import { fillTopic } from './topic-template.ts';

export interface CommandTopics {
  /** The filter to subscribe to. */
  readonly filter: string;
  /** Undefined for a topic that is not one of commands. */
  parse(topic: string): { readonly deviceId: string; readonly command: string } | undefined;
  /** Where the answer to a command of that id goes; `_` stands for an id that cannot be used. */
  answerTopic(deviceId: string, id: string | undefined): string;
}

/** Takes templates in which `commandTemplateFault` and `topicTemplateFault` found no fault. */
export function createCommandTopics(
  templates: { readonly topic: string; readonly response_topic: string },
  gatewayId: DeviceId,
): CommandTopics {
  const open = { gatewayId, deviceId: '{device_id}', command: '{command}' };
  const levels = templates.topic.split('/').map((level) => fillTopic(level, open));
  return {
    filter: levels.map((level) => (isOpen(level) ? '+' : level)).join('/'),
    parse(topic) {
      const found = topic.split('/');
      if (found.length !== levels.length) return undefined;
      let deviceId = '';
      let command = '';
      for (const [index, level] of levels.entries()) {
        const text = found[index] ?? '';
        if (level === '{device_id}') deviceId = text;
        else if (level === '{command}') command = text;
        else if (level !== text) return undefined;
      }
      return deviceId === '' || command === '' ? undefined : { deviceId, command };
    },
    answerTopic: (deviceId, id = '_') => fillTopic(templates.response_topic, { gatewayId, deviceId, id }),
  };
}

function isOpen(level: string): boolean {
  return level === '{device_id}' || level === '{command}';
}

/** MQTT 4.7.1.3: a wildcard takes a whole level, so what commands are recognised by does too. */
export function commandTemplateFault(template: string): string | undefined {
  const levels = template.split('/');
  for (const name of ['{device_id}', '{command}']) {
    if (levels.filter((level) => level === name).length !== 1) return `must hold ${name} once, between slashes`;
  }
  return undefined;
}
