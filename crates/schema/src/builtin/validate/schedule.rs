//! Schedules of five fields, as cron reads them.

/// What is wrong with a schedule of five fields (or `@hourly` and the like).
pub(super) fn wrong(schedule: &str) -> Option<String> {
    if let Some(word) = schedule.strip_prefix('@') {
        let known = [
            "yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly",
        ];
        let every = word
            .strip_prefix("every ")
            .is_some_and(|every| !every.is_empty());
        return (!known.contains(&word) && !every)
            .then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        let list = fields.join(" ");
        return Some(format!(
            "expected exactly 5 fields, found {}: [{list}]",
            fields.len()
        ));
    }
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    fields
        .iter()
        .zip(bounds)
        .find_map(|(field, (least, most))| field_error(field, least, most))
}

fn field_error(field: &str, least: u32, most: u32) -> Option<String> {
    const NAMES: [&str; 19] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "sun",
        "mon", "tue", "wed", "thu", "fri", "sat",
    ];
    let value = |text: &str| -> Result<u32, String> {
        match NAMES.iter().position(|name| text.eq_ignore_ascii_case(name)) {
            Some(at) if most == 12 && at < 12 => Ok(at as u32 + 1),
            Some(at) if most == 6 && at >= 12 => Ok(at as u32 - 12),
            _ => text.parse().map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")),
        }
    };
    let range = |part: &str| -> Result<(), String> {
        let (span, step) = part
            .split_once('/')
            .map_or((part, None), |(span, step)| (span, Some(step)));
        if let Some(step) = step
            && value(step)? == 0
        {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        if span == "*" || span == "?" {
            return Ok(());
        }
        let (start, end) = match span.split_once('-') {
            Some((start, end)) => (value(start)?, value(end)?),
            None => (value(span)?, value(span)?),
        };
        if start < least {
            return Err(format!(
                "beginning of range ({start}) below minimum ({least}): {part}"
            ));
        }
        if end > most {
            return Err(format!(
                "end of range ({end}) above maximum ({most}): {part}"
            ));
        }
        if start > end {
            return Err(format!(
                "beginning of range ({start}) beyond end of range ({end}): {part}"
            ));
        }
        Ok(())
    };
    field.split(',').find_map(|part| range(part).err())
}
