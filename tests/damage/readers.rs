//! Readers that need longer than a request, and how old an answer may be.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_reader_catches_up_however_long_that_takes() {
    let (odd, store) = world();
    write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..2_000).await;
    odd.slow_log_ms.store(2_000, Ordering::Relaxed);
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    let mut asked = 0;
    let found = loop {
        asked += 1;
        let search = search(&reader, Consistency::Eventual);
        if let Ok(found) = timeout(Duration::from_secs(30), search).await {
            break found.unwrap();
        }
        assert!(asked < 8, "it starts over with every request");
    };
    assert_eq!((found.hits.len(), found.version), (1_000, Seq(2_000)));
    assert!(asked > 2, "or this is no test");
}

#[tokio::test(start_paused = true)]
async fn what_is_read_while_catching_up_is_shown_at_once() {
    let (odd, store) = world();
    write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..2_000).await;
    odd.slow_log_ms.store(2_000, Ordering::Relaxed);
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    let version = Consistency::AtLeast { version: Seq(100), wait: Duration::from_secs(40) };
    let found = timeout(Duration::from_secs(40), search(&reader, version)).await.unwrap().unwrap();
    assert!(found.version >= Seq(100) && found.version < Seq(2_000), "{}", found.version);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_takes_longer_than_a_request_is_loaded_once() {
    let (odd, store) = world();
    let writer = instance(&store, Role::Hybrid, by_hand(), 1).await;
    write(&writer, 0..20).await;
    writer.index(&things()).await.unwrap();
    writer.shutdown().await;
    odd.slow_ms.store(20_000, Ordering::Relaxed);
    odd.segments.store(0, Ordering::Relaxed);
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    let mut answered = false;
    for _ in 0..20 {
        let search = search(&reader, Consistency::Eventual);
        answered |= timeout(Duration::from_secs(30), search).await.is_ok();
    }
    assert!(answered);
    assert_eq!(odd.segments.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_eventual_read_waits_for_a_slow_store_and_never_shows_what_is_long_gone() {
    let (odd, store) = world();
    let writer = instance(&store, Role::Writer, unindexed(), 1).await;
    write(&writer, 0..2).await;
    let reader = instance(&store, Role::Reader, Settings::default(), 2).await;
    assert_eq!(search(&reader, Consistency::Eventual).await.unwrap().hits.len(), 2);
    writer.delete(&things(), DeleteTarget::Ids(vec!["r0".into()])).await.unwrap();
    odd.slow_ms.store(3_000, Ordering::Relaxed);
    for pause in [3, 60, 3 * 3_600] {
        sleep(Duration::from_secs(pause)).await;
        let found = search(&reader, Consistency::Eventual).await.unwrap();
        assert_eq!(found.hits.len(), 1, "after {pause} s");
        assert!(found.stats.age <= Duration::from_secs(10), "{:?}", found.stats.age);
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_answers_are_as_old_as_the_setting_says_and_say_so() {
    for (stale_max_ms, answered_s) in [(60_000, 55), (0, 0)] {
        let (odd, store) = world();
        write(&instance(&store, Role::Writer, unindexed(), 1).await, 0..2).await;
        let settings = Settings { stale_max_ms, ..Settings::default() };
        let reader = instance(&store, Role::Reader, settings, 2).await;
        search(&reader, Consistency::Eventual).await.unwrap();
        odd.away.store(true, Ordering::Relaxed);
        let mut oldest = 0;
        for second in 0..90 {
            sleep(Duration::from_secs(1)).await;
            match search(&reader, Consistency::Eventual).await {
                Ok(found) => {
                    oldest = second;
                    assert!(found.stats.age.as_secs() <= 2 + stale_max_ms / 1_000);
                    assert!(found.stats.age.as_secs() + 2 >= second);
                }
                Err(error) => assert_eq!(error.code(), Code::StoreUnavailable),
            }
        }
        assert!(oldest >= answered_s && oldest <= answered_s + 8, "{oldest}");
        odd.away.store(false, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        search(&reader, Consistency::Eventual).await.unwrap();
    }
}
