//! The disk says no: deliveries are answered 503 and come again, and the service heals without a restart.

use std::time::Duration;

use serde_json::json;

use crate::service::{SOON, Service, wait_for};
use crate::strace::Strace;

#[tokio::test]
async fn a_failing_disk_is_answered_503_and_heals_by_itself() {
    let mut service = Service::started(json!({})).await;
    assert_eq!(service.comment(1, "before", "@agent analyze this").await.unwrap().0, 202);
    let Some(failing) = Strace::failing_syncs(service.pid()) else {
        eprintln!("strace is not here or may not trace: the failing disk is passed over");
        return;
    };
    for n in 0..20 {
        let (status, answer) = service.comment(100 + n, &format!("during-{n}"), "@agent analyze this").await.unwrap();
        assert_eq!(status, 503, "a delivery was acked while the disk refused: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(failing);
    assert!(service.is_running());
    wait_for("the service to heal", || async {
        service.comment(2, "after", "@agent analyze this").await.is_some_and(|(status, _)| matches!(status, 200 | 202))
    })
    .await;
    // Whether a refused delivery reached the disk after all cannot be known; the sender comes again, and it runs once.
    for n in 0..20 {
        let (status, answer) = service.comment(100 + n, &format!("during-{n}"), "@agent analyze this").await.unwrap();
        assert!(matches!(status, 200 | 202), "{status} {answer}");
    }
    service.wait_tasks_done(22, SOON).await;
    assert_eq!(service.tasks().await.len(), 22);
    assert!(service.github.wait_for_comments(22, SOON).await);
}
